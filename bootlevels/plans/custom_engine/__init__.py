"""The sample plan "custom-engine": plan.yaml, and an engine of twenty lines."""
