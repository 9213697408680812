"""Verbs pack and write: from tokens to rows and shards."""
