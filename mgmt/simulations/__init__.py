"""``epu simulate``."""
