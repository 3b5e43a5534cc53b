"""``epu pool rollout``."""
