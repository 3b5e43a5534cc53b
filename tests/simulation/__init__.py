"""The deterministic simulator: many histories, its invariants, and the tests of the test."""
