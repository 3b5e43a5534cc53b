"""What a person decides over an engine's head, for a while: hold, resume, override."""
