"""Find files in folders, archives and at addresses, and open them as streams."""
