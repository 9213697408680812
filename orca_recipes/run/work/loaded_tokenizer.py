"""Tokenizers that this process has loaded: loading one takes up to seconds, so it is done once."""

from functools import lru_cache
from pathlib import Path

from orca_recipes.contract.kinds import Encoder, Tokenizer


@lru_cache(maxsize=2)
def opened(tokenizer: Tokenizer, folder: Path) -> Encoder:
    """Load a tokenizer from its folder in the store; cached, as such a folder never changes."""
    return tokenizer.open(folder=folder)
