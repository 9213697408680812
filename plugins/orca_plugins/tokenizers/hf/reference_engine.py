"""The reference: the tokenizers library, which is what inference runs.

It gives one object a text, so this is the one place where runs are walked one by one; it is slow, and used for what the
fast engine cannot do or is checked on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_plugins.tokenizers.hf.tokenizer_json import Definition, added_tokens, dump, dump_with, model_vocabulary
from orca_recipes.errors import TokenizerError

if TYPE_CHECKING:
    import pyarrow as pa

# An encoding of tokenizers holds many times its ids: this bounds the memory at any number of texts.
_BATCH = 4096
_SPACES = ("\u2581", "\u0120", " ")
"""How tokenizers write a space: SentencePiece's, the byte-level alphabet's, and plain."""

# For questions to a normalizer or pre-tokenizer: no model is loaded for them.
EMPTY_MODEL = {"type": "BPE", "vocab": {}, "merges": []}


class Reference:
    """A definition loaded by the tokenizers library."""

    def __init__(self, definition: Definition, model: str | None = None, *, sibling: Reference | None = None) -> None:
        """model: the JSON of the definition's model, where it is at hand. sibling: one with the same model, which is
        then not loaded again.

        Raises: TokenizerError, in the library's words.
        """
        if sibling is None:
            self._engine = _load(dump(definition) if model is None else dump_with(model, definition))
        else:
            self._engine = _sharing(definition, sibling._engine.model)
        self._renumbered = _renumbered(self._engine, definition)

    def encode(self, texts: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
        """Encode texts: ids uint32 [tokens] and offsets int64 [texts + 1]. Raises: TokenizerError."""
        parts: list[np.ndarray] = []
        for start in range(0, len(texts), _BATCH):
            parts += self._batch(texts[start : start + _BATCH].to_pylist())
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
        ids = np.concatenate(parts) if parts else np.empty(0, dtype=np.uint32)
        return ids if self._renumbered is None else self._renumbered[ids], offsets

    def decode(self, batch: Sequence[Sequence[int]]) -> list[str]:
        """Decode each list of ids; a token that the definition lacks gives no text."""
        known = [list(ids) for ids in batch] if self._renumbered is None else [self._given(ids) for ids in batch]
        return list(self._engine.decode_batch(known, skip_special_tokens=False))

    def id_of(self, text: str) -> int | None:
        """Return the library's id of a token, None for an unknown one."""
        found: int | None = self._engine.token_to_id(text)
        return found

    def size(self) -> int:
        """Count the tokens of the library, added ones included."""
        return int(self._engine.get_vocab_size(with_added_tokens=True))

    def normal(self, texts: Sequence[str]) -> list[str]:
        """Return the texts as the normalizer leaves them."""
        return [self._normal(text) for text in texts]

    def puts_before_text(self) -> bool:
        """Tell whether the model gets a space before a text without one."""
        normal, splitter = self._normal("a"), self._engine.pre_tokenizer
        pieces = [piece for piece, _ in splitter.pre_tokenize_str(normal)] if splitter else [normal]
        return bool(pieces) and pieces[0].startswith(_SPACES)

    def strips_ends(self) -> bool:
        """Tell whether the normalizer strips white space at the ends of each text."""
        return len(self._normal(" a ")) - len(self._normal("a")) < 2

    def _given(self, ids: Sequence[int]) -> list[int]:
        """Map true ids to the library's."""
        assert self._renumbered is not None
        given = np.arange(len(self._renumbered))
        moved = np.flatnonzero(self._renumbered != given)
        given[self._renumbered[moved]] = moved
        return [int(found) for found in given[np.asarray(ids, dtype=np.int64)]]

    def _normal(self, text: str) -> str:
        normalizer = self._engine.normalizer
        # Asked for by name: before tokenizers 0.21.2 a sequence of normalizers counts as false.
        return text if normalizer is None else str(normalizer.normalize_str(text))

    def _batch(self, texts: list[str]) -> list[np.ndarray]:
        try:
            # The fast variant leaves out offsets into the text, which nobody needs.
            encodings = self._engine.encode_batch_fast(texts, add_special_tokens=False)
        except Exception as fault:  # the library raises bare Exceptions
            raise TokenizerError(f"the tokenizer cannot encode a text: {fault}") from None
        return [np.array(encoding.ids, dtype=np.uint32) for encoding in encodings]


def _load(definition: str) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(definition)
    except Exception as fault:  # the library raises bare Exceptions
        raise TokenizerError(f"the tokenizers library cannot load the tokenizer.json: {fault}") from None


def _sharing(definition: Definition, model: Any) -> Any:
    """Build an engine for the definition around a model that is loaded already."""
    from tokenizers import AddedToken

    engine = _load(dump({**definition, "model": EMPTY_MODEL, "added_tokens": []}))
    engine.model = model
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    engine.add_tokens(
        [AddedToken(token["content"], **{flag: token[flag] for flag in flags}) for token in added_tokens(definition)]
    )
    return engine


def _renumbered(engine: Any, definition: Definition) -> np.ndarray | None:
    """Map the library's ids to the true ones, None where all agree.

    The library numbers added tokens in their order, from the end of the model's vocabulary on, whatever the definition
    says: where control tokens are taken out, later tokens move down.
    """
    moved = {engine.token_to_id(token["content"]): token["id"] for token in added_tokens(definition)}
    moved = {given: true for given, true in moved.items() if given != true}
    if not moved:
        return None
    taken = set(model_vocabulary(definition).values())
    if taken & set(moved):
        raise TokenizerError("the tokenizer.json leaves holes between ids, and its added tokens fall into them")
    ids = np.arange(max([*moved, *moved.values(), *taken]) + 1, dtype=np.uint32)
    ids[list(moved)] = list(moved.values())
    return ids
