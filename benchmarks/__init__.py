"""Figures that anyone can measure: ``python -m benchmarks.NAME``."""
