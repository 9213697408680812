"""Source "hub"."""
