"""Commands about nodes and history."""
