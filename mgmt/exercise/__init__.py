"""``epu exercise``: what a system does when things go wrong at given seconds, and the verdict."""
