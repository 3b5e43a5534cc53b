"""The sensor aggregator: takes readings in, keeps short histories, judges nothing."""
