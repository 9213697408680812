"""Tokenizer "hf"."""
