"""``epu wheelhouse``: wheels of this installation, for machines that have no index."""
