"""Processes that die, calls that are lost: what the world looks like afterwards."""
