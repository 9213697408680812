"""The end-of-text token of a shipped tokenizer, looked up in its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orca_recipes.json_text import json_value
from orca_recipes.shards.files import damage
from orca_recipes.shards.layout import TOKENIZER


def end_of_text_id(directory: Path) -> int | None:
    """Find the end-of-text token that a build's tokenizer names in its settings; None where they name none.

    Raises: DamagedShard where a file of the tokenizer cannot be read as one.
    """
    path = (directory / TOKENIZER).with_name("tokenizer_config.json")
    try:
        text = json_value(path.read_bytes()).get("eos_token")
        text = text.get("content") if isinstance(text, dict) else text
        if text is None:
            return None
        path = directory / TOKENIZER
        return token_id(json_value(path.read_bytes()), str(text))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise damage(path, f"it cannot be read as a tokenizer's ({error})") from error


def token_id(definition: Mapping[str, Any], text: str) -> int | None:
    """Look a token up in a `tokenizer.json`, as the tokenizers library does: added tokens come before the model's.

    The library itself takes half a second to load a large vocabulary, most of a small export's time.
    """
    for token in definition.get("added_tokens") or ():
        if token["content"] == text:
            return int(token["id"])
    vocabulary = definition["model"]["vocab"]
    if isinstance(vocabulary, dict):
        return vocabulary.get(text)
    # Unigram lists its tokens with their scores; an id is a place.
    return next((place for place, (token, _) in enumerate(vocabulary) if token == text), None)
