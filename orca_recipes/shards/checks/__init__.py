"""Proving a build from its directory alone."""
