"""Verb read: from the rows of a source to examples with ids."""
