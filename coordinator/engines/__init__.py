"""Decision engines: how many workers a pool wants, and why."""
