"""Verbs tokenizer and template, and whatever else a moving name is pinned to before a plan is made."""
