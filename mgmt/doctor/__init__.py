"""``epu doctor``: what is wrong with a run, and with this machine, and how to repair it."""
