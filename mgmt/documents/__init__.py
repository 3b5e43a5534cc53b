"""What commands print with ``--json``: a model each, of which its JSON Schema is made."""
