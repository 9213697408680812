"""Source "flan"."""
