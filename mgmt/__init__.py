"""The ``epu`` command: inspect, explain, troubleshoot and tear down with proof."""
