"""Teacher "replay"."""
