"""``epu replay``."""
