"""Commands that collect logs."""
