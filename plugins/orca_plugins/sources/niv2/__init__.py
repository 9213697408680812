"""Source "niv2"."""
