"""The fast engine: gigatoken, which takes Arrow text without a Python object per row.

gigatoken 0.10 keeps every distinct piece of text it has met, for as long as it lives, and cannot be told to stop: up to
ten bytes of memory for each byte of text that does not repeat. So the engine is loaded anew after a measure of text,
which costs a tenth of a second and changes no id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.errors import TokenizerError

if TYPE_CHECKING:
    import pyarrow as pa

RELOAD_BYTES = 256 * 1024 * 1024
"""Text after which the engine is loaded anew: at most about 2.5 GB are kept, and a tenth of that on natural text."""


class Unsupported(Exception):
    """gigatoken cannot do it, in its own words."""


class Fast:
    """A definition loaded by gigatoken."""

    def __init__(self, definition: str) -> None:
        """Raises: Unsupported."""
        self._definition = definition
        self._engine = _load(definition)
        self._encoded_bytes = 0

    def encode(self, texts: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
        """Encode texts: ids uint32 [tokens] and offsets int64 [texts + 1]. Raises: Unsupported."""
        offsets, data = text_buffers(texts)
        if self._encoded_bytes > RELOAD_BYTES:
            # Freed before the next is loaded, so that memory never holds two.
            del self._engine
            self._engine = _load(self._definition)
            self._encoded_bytes = 0
        self._encoded_bytes += len(data)
        return _encode(self._engine, offsets, data)


def text_buffers(texts: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """Return offsets int64 [texts + 1], the first 0, and the bytes between them: uint8. Nothing is copied but the
    offsets.

    An array may be a slice of its buffers, and an empty one may have none.
    """
    _, bounds, data = texts.buffers()
    if not len(texts) or bounds is None:
        return np.zeros(len(texts) + 1, dtype=np.int64), np.empty(0, dtype=np.uint8)
    offsets = np.frombuffer(bounds, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    content = np.empty(0, dtype=np.uint8) if data is None else np.frombuffer(data, dtype=np.uint8)
    return offsets - offsets[0], content[offsets[0] : offsets[-1]]


def _load(definition: str) -> Any:
    import gigatoken

    try:
        return gigatoken.Tokenizer.from_json(definition)
    except BaseException as fault:  # a panic of Rust is no Exception
        raise _unsupported(fault) from None


def _encode(engine: Any, offsets: np.ndarray, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import awkward as ak

    characters = ak.contents.NumpyArray(data, parameters={"__array__": "char"})
    strings = ak.contents.ListOffsetArray(ak.index.Index64(offsets), characters, parameters={"__array__": "string"})
    try:
        # One thread: speed comes from workers.
        layout = engine.encode_batch(ak.Array(strings), parallel=False).layout
    except BaseException as fault:
        raise _unsupported(fault) from None
    bounds = np.asarray(layout.offsets.data, dtype=np.int64)
    ids = np.asarray(layout.content.data, dtype=np.uint32)
    return ids[bounds[0] : bounds[-1]], bounds - bounds[0]


def _unsupported(fault: BaseException) -> BaseException:
    """Choose the exception to raise for a fault of gigatoken: interrupts and want of memory stay as they are."""
    if isinstance(fault, (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError, TokenizerError)):
        return fault
    lines = str(fault).strip().splitlines()
    return Unsupported(lines[0] if lines else type(fault).__name__)
