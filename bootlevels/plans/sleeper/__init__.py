"""The sample plan "sleeper": plan.yaml, its worker and its producer."""
