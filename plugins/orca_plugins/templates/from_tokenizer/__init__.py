"""Template "from_tokenizer"."""
