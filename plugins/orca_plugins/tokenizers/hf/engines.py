"""The two engines of one definition, and the trial that decides whether the fast one may encode.

It is tried on texts made to part it from the reference when a process first encodes, because its code differs between
processors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from orca_plugins.tokenizers.hf.fast_engine import Fast, Unsupported
from orca_plugins.tokenizers.hf.probe_texts import probes
from orca_plugins.tokenizers.hf.reference_engine import Reference
from orca_plugins.tokenizers.hf.tokenizer_json import Definition, dump_with, for_decoding

if TYPE_CHECKING:
    import pyarrow as pa


class Engines:
    """The engines of one definition, and whether the fast one may be used. Each is loaded when it is first needed."""

    def __init__(
        self, definition: Definition, model: str, probed_tokens: Sequence[str], sibling: Reference | None
    ) -> None:
        """model: the JSON of the definition's model. sibling: a reference with the same model."""
        self._definition = definition
        self._model = model
        self._probed_tokens = probed_tokens
        self.reference = Reference(for_decoding(definition), model, sibling=sibling)

    def encode(self, texts: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
        if self._state.fast is not None:
            try:
                return self._state.fast.encode(texts)
            except Unsupported as fault:  # whatever it gave up on, the reference gives the ids
                self._state.fast, self._state.why = None, f"the fast tokenizer gave up on a text ({fault})"
        return self.reference.encode(texts)

    @property
    def why(self) -> str:
        """Return the reason why the fast engine may not be used; empty where it may."""
        return self._state.why

    @cached_property
    def _state(self) -> _FastState:
        try:
            # Tried in every process, since the fast engine's code differs between processors.
            fast = Fast(dump_with(self._model, self._definition))
            why = _difference(fast, self.reference, probes(self._probed_tokens))
        except Unsupported as fault:
            return _FastState(None, f"the fast tokenizer cannot be used ({fault})")
        return _FastState(None if why else fast, why)


@dataclass
class _FastState:
    """The fast engine, None where it may not be used, and why it may not."""

    fast: Fast | None
    why: str


def _difference(fast: Fast, reference: Reference, texts: Sequence[str]) -> str:
    """Describe the first difference of the two engines on the texts; empty where there is none."""
    place = first_difference(fast.encode(column_of(texts)), reference.encode(column_of(texts)))
    return "" if place is None else f"the fast tokenizer differs on {texts[place][:40]!r}"


def first_difference(ours: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray]) -> int | None:
    """Find the first text with different ids in two encodings (ids, offsets); None where they agree."""
    for place in range(len(ours[1]) - 1):
        left, right = (ids[offsets[place] : offsets[place + 1]] for ids, offsets in (ours, theirs))
        if not np.array_equal(left, right):
            return place
    return None


def column_of(texts: Sequence[str]) -> pa.LargeStringArray:
    """Make an Arrow column of texts."""
    import pyarrow as pa

    return pa.array(texts, type=pa.large_string())
