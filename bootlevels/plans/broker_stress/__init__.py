"""The sample plan "broker-stress": plan.yaml, its loaders and its summary."""
