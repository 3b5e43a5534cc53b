"""``epu watch``: a live view of a system."""
