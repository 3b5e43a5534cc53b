"""Orders that a person gives about one node."""
