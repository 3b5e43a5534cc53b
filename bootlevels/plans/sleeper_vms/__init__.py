"""The sample plan "sleeper-vms": plan.yaml, a coordinator spread over two machines."""
