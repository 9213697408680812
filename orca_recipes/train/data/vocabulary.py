"""Tokens of a tokenizer by id, to compare a model's ids with a build's.

A build of another tokenizer has ids that the model knows as other tokens: the training runs, and its losses are those
of a text in cipher. So tokens are compared id by id before anything is trained or imported.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orca_recipes.errors import ModelError
from orca_recipes.json_text import json_value

_FILE = "tokenizer.json"
_OTHER_FILES = ("tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.tiktoken")
"""What older models have in its place, read by transformers."""


@dataclass(frozen=True)
class Tokens:
    """A tokenizer's tokens by id. added: ids of those that were added to its vocabulary."""

    by_id: Mapping[int, str]
    added: frozenset[int]


def what_is_unknown(model: Path, tokenizer: Path, build: Path, *, known: int) -> str | None:
    """Hold the tokens of a model against those of a build.

    Args:
        model: named in what is said. tokenizer: folder of its tokenizer, which may have none. build: its directory.
        known: how many tokens the model has embeddings of; what its tokenizer has beyond is nothing to it.
    Returns: a sentence where there is nothing to compare, None where all tokens agree.
    Raises: ModelError, naming the first token that differs.
    """
    ours = build / "tokenizer" / _FILE
    theirs = tokenizer / _FILE
    if theirs.is_file() and ours.is_file() and theirs.read_bytes() == ours.read_bytes():
        return None
    try:
        found = tokens_of(tokenizer)
    except ModelError as error:
        return f"{error}: whether its tokens are those of {build} is not known"
    if found is None:
        return f"{model} brings no tokenizer: whether its tokens are those of {build} is not known"
    expected = tokens_of(build / "tokenizer")
    if expected is None:
        raise ModelError(f"{ours}: there is no such file; build again")
    differs = _first_difference(found, expected, known)
    if differs is not None:
        raise ModelError(
            f"{model}: token {differs:,} is {_told(found, differs)} to this model and {_told(expected, differs)} to "
            f"{build}, which has another tokenizer; build with the tokenizer that belongs to this model, or name the "
            "model that the build's tokenizer belongs to"
        )
    return None


def tokens_of(folder: Path) -> Tokens | None:
    """Read the tokens of a folder's tokenizer; None where it has none.

    Raises: ModelError where it cannot be read.
    """
    path = folder / _FILE
    if path.is_file():
        try:
            return _tokens(json_value(path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{path} cannot be read as a tokenizer ({error})") from error
    if any((folder / name).is_file() for name in _OTHER_FILES):
        return _read_by_transformers(folder)
    return None


def _tokens(found: Mapping[str, Any]) -> Tokens:
    """Parse the tokens of `tokenizer.json`: a table of pieces, or, for Unigram, a list of pieces with scores."""
    vocabulary = found["model"]["vocab"]
    if isinstance(vocabulary, Mapping):
        by_id = {int(token): str(text) for text, token in vocabulary.items()}
    else:
        by_id = {token: str(piece[0]) for token, piece in enumerate(vocabulary)}
    added = {int(token["id"]): str(token["content"]) for token in found.get("added_tokens") or []}
    return Tokens({**by_id, **added}, frozenset(added))


def _read_by_transformers(folder: Path) -> Tokens:
    from transformers import AutoTokenizer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        except Exception as error:
            # A tokenizer of any age, and whatever package it needs: it raises what it likes.
            raise ModelError(f"the tokenizer of {folder} cannot be read ({type(error).__name__})") from error
    by_id = {int(token): str(text) for text, token in tokenizer.get_vocab().items()}
    return Tokens(by_id, frozenset(int(token) for token in tokenizer.added_tokens_decoder))


def _first_difference(model: Tokens, build: Tokens, known: int) -> int | None:
    """Find the first id with an embedding in the model and another meaning in the build.

    An id that the model's tokenizer leaves free may be a token that the build added.
    """
    differ = (
        token
        for token, text in build.by_id.items()
        if token < known and model.by_id.get(token, text if token in build.added else None) != text
    )
    return min(differ, default=None)


def _told(tokens: Tokens, token: int) -> str:
    text = tokens.by_id.get(token)
    return "none" if text is None else json.dumps(text, ensure_ascii=False)
