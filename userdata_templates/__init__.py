"""Jinja2 templates for what a machine is told at its first boot."""
