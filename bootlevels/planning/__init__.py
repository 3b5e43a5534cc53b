"""Commands for plans that nothing is booted from."""
