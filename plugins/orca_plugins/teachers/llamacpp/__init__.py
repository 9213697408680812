"""Teacher "llamacpp"."""
