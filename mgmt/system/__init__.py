"""Commands about the whole system: broker, coordinator, teardown, shell."""
