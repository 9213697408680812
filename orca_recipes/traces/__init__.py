"""Answers that were bought: kept for good, shared by all recipes."""
