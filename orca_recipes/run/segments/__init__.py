"""Conversations as pieces of a template: runs of text, encoded once, put together to rows of tokens."""
