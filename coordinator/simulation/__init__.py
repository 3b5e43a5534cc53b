"""A whole fleet in one process and no time: production code over a simulated world, by seed."""
