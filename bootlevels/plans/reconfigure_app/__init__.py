"""The sample plan "reconfigure-app": plan.yaml, and an application that sizes its own pool."""
