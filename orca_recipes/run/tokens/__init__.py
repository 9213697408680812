"""Verb tokenize: from conversations to tokens with their mask."""
