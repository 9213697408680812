"""Teacher "openai"."""
