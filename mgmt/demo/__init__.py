"""``epu demo``: the sleeper's whole life on this machine, watched and proven."""
