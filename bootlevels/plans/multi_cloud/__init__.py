"""The sample plan "multi-cloud": plan.yaml, and a cloud with little room."""
