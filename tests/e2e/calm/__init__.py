"""Tests with pools of their own in one system, which nobody kills and which ends with them."""
