"""Boots a launch plan level by level, verifies, monitors, repairs and terminates it."""
