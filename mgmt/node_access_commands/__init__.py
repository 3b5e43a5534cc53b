"""Commands that go to a node through its agent."""
