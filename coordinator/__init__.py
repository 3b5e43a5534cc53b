"""Keeps pools of workers at the size a decision engine wants."""
