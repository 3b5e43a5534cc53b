"""``epu schema``: the JSON Schemas of what people write and of what commands print."""
