"""Recipes: their grammar, how they are read, and the messages for their faults."""
