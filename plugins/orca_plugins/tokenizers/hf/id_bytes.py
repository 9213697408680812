"""A table of the bytes that each id spells, to read many ids back without an object a run.

The table is checked against the reference id by id: an id of whole characters has the text that the reference gives for
it alone; an id of a part of a character is a byte of the byte-level alphabet or of byte fallback. Only decoders that
join what their ids spell, whatever the neighbours, get a table.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from orca_plugins.tokenizers.hf.reference_engine import Reference
from orca_plugins.tokenizers.hf.tokenizer_json import Definition, added_tokens, decoding_steps, model_vocabulary

if TYPE_CHECKING:
    import pyarrow as pa

_UNKNOWN_CHARACTER = "\ufffd"


class Spelling:
    """The bytes of each id."""

    def __init__(self, spelt: Sequence[bytes], control: Mapping[int, str]) -> None:
        """control: what stands for ids that are no text."""
        import pyarrow as pa

        self._spelt = list(spelt)
        self._size = len(spelt)
        # The second half is for an id at a place where a leading space is taken away.
        stripped = [text.removeprefix(b" ") for text in spelt]
        self._table = pa.array([*spelt, *stripped], type=pa.large_binary())
        self._is_empty = np.array([not text for text in spelt])
        self._whole = [*spelt, *stripped]
        for token, text in control.items():
            self._whole[token] = text.encode()

    @classmethod
    def of(cls, definition: Definition, reference: Reference, size: int, control: Mapping[int, str]) -> Spelling | None:
        """Build the table for ids below size; None where ids do not spell one by one.

        Args:
            definition: one whose decoder keeps the start of a text, as the reference was loaded with.
            control: the control tokens, id to text.
        """
        steps = decoding_steps(definition)
        if not steps or not all(map(_joins, steps)):
            return None
        texts = reference.decode([[token] for token in range(size)])
        spelt = list(map(str.encode, texts))
        parts = {token: text for token, text in enumerate(texts) if _UNKNOWN_CHARACTER in text}
        bytes_of = _partial_bytes(definition, {step["type"] for step in steps}, parts)
        for token, text in parts.items():
            spelt[token] = bytes_of.get(token, b"")
            if spelt[token].decode(errors="replace") != text:
                return None
        return cls(spelt, control)

    def texts(self, *, ids: np.ndarray, offsets: np.ndarray, strips: bool) -> tuple[pa.LargeStringArray, np.ndarray]:
        """Decode each run, and list the runs (int64, rising) that the reference must read: their text is empty here.

        Args:
            ids: integers [tokens], below the table's size. offsets: int64 [runs + 1].
            strips: take one leading space of each run away.
        """
        places = np.ascontiguousarray(ids)
        filled = np.flatnonzero(np.diff(offsets))
        unsure = filled[self._is_empty[places[offsets[filled]]]] if strips else filled[:0]
        if strips:
            places = places.astype(np.int64)
            places[offsets[filled]] += self._size
        return _joined(self._table, places, offsets, unsure)

    def wholes(
        self, ids: np.ndarray, offsets: np.ndarray, opening: np.ndarray
    ) -> tuple[pa.LargeStringArray, np.ndarray]:
        """Decode texts with control tokens among their ids, and list those that the reference must read, as `texts`.

        Args:
            ids: int64 [tokens]. offsets: int64 [texts + 1]. opening: int64, rising, the places where a leading space of
                text is taken away.
        """
        doubtful = opening[self._is_empty[ids[opening]]]
        unsure = np.unique(np.searchsorted(offsets, doubtful, side="right") - 1)
        if len(opening):
            ids = ids.copy()
            ids[opening] += self._size
        return _joined(self._whole_table, ids, offsets, unsure)

    def whole(self, ids: np.ndarray, opening: np.ndarray) -> str | None:
        """Decode ids with control tokens among them, None where the reference must read them.

        Args:
            ids: int64 [tokens]. opening: int64, the places where a leading space of text is taken away.
        """
        if len(opening):
            if self._is_empty[ids[opening]].any():
                return None
            ids = ids.copy()
            ids[opening] += self._size
        try:
            return b"".join(map(self._whole.__getitem__, ids.tolist())).decode()
        except UnicodeDecodeError:
            return None

    @cached_property
    def _whole_table(self) -> pa.LargeBinaryArray:
        import pyarrow as pa

        return pa.array(self._whole, type=pa.large_binary())

    def text(self, ids: Sequence[int]) -> str | None:
        """Decode some ids, None where they end within a character."""
        try:
            return b"".join(map(self._spelt.__getitem__, ids)).decode()
        except UnicodeDecodeError:
            return None


def _joins(step: dict[str, Any]) -> bool:
    """Tell whether a step of a decoder leaves the text of neighbours to join as it is."""
    if step["type"] == "Replace":
        return len(step["pattern"].get("String", "")) == 1
    if step["type"] == "Strip":
        return not (step["start"] or step["stop"])
    return step["type"] in ("ByteLevel", "ByteFallback", "Fuse", "Metaspace")


def _partial_bytes(definition: Definition, steps: set[str], wanted: Container[int]) -> dict[int, bytes]:
    """Return the bytes of the wanted ids, which may spell a part of a character."""
    texts = {token: text for text, token in model_vocabulary(definition).items() if token in wanted}
    texts |= {token["id"]: token["content"] for token in added_tokens(definition) if token["id"] in wanted}
    if "ByteLevel" in steps:
        alphabet = _alphabet()
        return {
            token: bytes(alphabet[sign] for sign in text) if alphabet.keys() >= set(text) else text.encode()
            for token, text in texts.items()
        }
    names = {f"<0x{byte:02X}>": bytes([byte]) for byte in range(256)} if "ByteFallback" in steps else {}
    return {token: names.get(text, text.encode()) for token, text in texts.items()}


def _alphabet() -> dict[str, int]:
    """Return the signs by which byte-level tokenizers write bytes (GPT-2): printable bytes are themselves, the others
    follow from 256 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(plain)]
    return {chr(byte): byte for byte in plain} | {chr(256 + at): byte for at, byte in enumerate(others)}


def _joined(
    table: pa.LargeBinaryArray, ids: np.ndarray, offsets: np.ndarray, unsure: np.ndarray
) -> tuple[pa.LargeStringArray, np.ndarray]:
    """Join what ids spell to texts, and add those to the unsure ones that are no UTF-8: unsure texts are empty."""
    import pyarrow as pa

    # Handed over as they are: to widen or convert them would cost as much as to look them up.
    wanted = pa.Array.from_buffers(pa.from_numpy_dtype(ids.dtype), len(ids), [None, pa.py_buffer(ids)])
    _, bounds, data = table.take(wanted).buffers()
    starts = np.frombuffer(bounds, dtype=np.int64)[offsets] if bounds is not None else np.zeros_like(offsets)
    texts = _text_array(starts, data)
    unsure = np.union1d(unsure, _broken(texts, 0))
    return texts if not len(unsure) else _without(texts, unsure), unsure


def _text_array(bounds: np.ndarray, data: pa.Buffer | None) -> pa.LargeStringArray:
    import pyarrow as pa

    offsets = pa.py_buffer(np.ascontiguousarray(bounds))
    return cast("pa.LargeStringArray", pa.LargeStringArray.from_buffers(len(bounds) - 1, offsets, data))


def _broken(texts: pa.LargeStringArray, first: int) -> np.ndarray:
    """Find the texts that are not UTF-8, counted from first, by halving, since there are hardly any."""
    import pyarrow as pa

    try:
        texts.validate(full=True)
    except pa.ArrowInvalid:
        if len(texts) == 1:
            return np.array([first])
        middle = len(texts) // 2
        return np.concatenate([_broken(texts[:middle], first), _broken(texts[middle:], first + middle)])
    return np.empty(0, dtype=np.int64)


def _without(texts: pa.LargeStringArray, places: np.ndarray) -> pa.LargeStringArray:
    """Empty the texts at some places, whatever their bytes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    mask = np.zeros(len(texts), dtype=bool)
    mask[places] = True
    kept = pc.if_else(pa.array(mask), pa.scalar(b"", type=pa.large_binary()), texts.cast(pa.large_binary()))
    return cast("pa.LargeStringArray", kept.cast(pa.large_string()))
