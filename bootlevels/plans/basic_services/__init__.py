"""The sample plan "basic-services": plan.yaml, its worker and its system test."""
