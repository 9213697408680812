"""Source "files"."""
