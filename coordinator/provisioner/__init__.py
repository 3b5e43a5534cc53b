"""Owns the instance records; the only component that talks to clouds for workers."""
