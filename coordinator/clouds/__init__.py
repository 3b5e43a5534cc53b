"""Cloud drivers: the only doors to an IaaS."""
