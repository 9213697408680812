"""Tokenizers that this process has loaded: loading one takes up to seconds, so it is done once."""

from functools import lru_cache
from pathlib import Path

from orca_recipes.contract.kinds import Encoder, Tokenizer


@lru_cache(maxsize=2)
def opened(tokenizer: Tokenizer, folder: Path) -> Encoder:
    """What a tokenizer wrote into a folder of the store, loaded; such a folder never changes."""
    return tokenizer.open(folder=folder)
