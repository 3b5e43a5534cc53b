"""Owns the pools: observe, judge, decide, bound, brake, act."""
