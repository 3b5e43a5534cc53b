"""Sample launch plans, shipped as package data; also the programs of their workers."""
