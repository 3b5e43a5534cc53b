"""The sample plan "webapp": plan.yaml, its database and its web servers."""
