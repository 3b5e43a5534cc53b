"""The sample plan "self-hosted": plan.yaml, and what brings the accounts."""
