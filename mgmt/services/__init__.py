"""Commands that start and stop what a system stands on: broker and coordinator."""
