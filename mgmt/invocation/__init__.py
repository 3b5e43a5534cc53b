"""What every command shares: options, output, the way to a running system."""
