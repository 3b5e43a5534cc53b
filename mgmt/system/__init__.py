"""Commands about a whole system: teardown and shell, and completion."""
