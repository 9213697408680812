"""Doing it: pin, execute, store; and proving the text of what was built."""
