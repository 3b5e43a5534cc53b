"""``epu graph``: a run as lines over time."""
