"""The daemon on every node: enrols, verifies itself, reports, supervises programs, drains."""
