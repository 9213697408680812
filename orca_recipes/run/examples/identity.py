"""Identity of an example: its row's own id, else its content and its number among equal rows.

Digests are taken part by part; which of equal rows is which is told once all parts are there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.draws import binary_digests, splitmix64
from orca_recipes.contract.frames import BESIDE_CONTENT, BESIDE_MESSAGES
from orca_recipes.store.arrow_files import one_piece, string_buffers

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

TAKEN = (
    None,
    "id: an earlier row has the same id and the same content",
    "id: an earlier row has the same id and other content",
)
FREE, _AGAIN, CONTRADICTED = range(3)
"""Whether a row's id is taken, as places in TAKEN."""

Digests = tuple[np.ndarray, np.ndarray, np.ndarray]
"""uint64 [rows] each: digest_hi, digest_lo and content, as `with_identity` appends them."""

_BESIDE = "+"
"""Stands before what a message has beside content: no message begins with it, so that the next one is none of that."""

_ROWS_AT_ONCE = 1 << 20
"""Rows that are looked at together, about, to find repeats: 16 bytes each are held."""

_ALWAYS = ("task", "question", "references", "system", "answer", "messages")
_GIVEN = ("options", "language", "reasoning", "extra", *BESIDE_MESSAGES)
"""Columns that few sources have: nothing at all where a row has none, so that its id does not tell whether its source
could have had them."""

_Texts = Any  # pa.LargeStringArray; the stubs' kernels tell no more
_Piece = str | _Texts
"""A text of each row, or one that all rows have."""


def with_identity(rows: pl.DataFrame, collection: str) -> pa.Table:
    """Append the digests of each row's identity (its own id, else its content), and of its content if it has an id.

    An Arrow table, because to make one copies the texts, and they are copied once: for the digests and for the file.
    """
    import pyarrow as pa

    table = rows.rechunk().to_arrow()
    columns = {name: one_piece(table.column(name)) for name in table.column_names}
    content = _content(columns)
    named = columns["id"].is_valid().to_numpy(zero_copy_only=False)
    hi, lo, content_digest = np.zeros((3, len(table)), dtype=np.uint64)
    if not named.all():
        whole = _joined([_spelt(collection, "content"), *content], len(table))
        hi[~named], lo[~named] = binary_digests(whole.filter(pa.array(~named)) if named.any() else whole)
    if named.any():
        own = pa.array(named)
        # With the collection's name: two collections may both number their rows from 1.
        known = _joined([_spelt(collection, "id"), *_measured(columns["id"])], len(table))
        hi[named], lo[named] = binary_digests(known.filter(own))
        content_digest[named] = binary_digests(_joined(content, len(table)).filter(own))[0]
    digests = {"digest_hi": hi, "digest_lo": lo, "content": content_digest}
    for name, digest in digests.items():
        table = table.append_column(name, pa.array(digest))
    return table


@dataclass(frozen=True)
class Repeats:
    """The rows that an earlier row is the same as, rising.

    rows: int64 [repeats]. id_hi, id_lo: uint64 [repeats], their ids. taken: int8 [repeats], places in TAKEN.
    """

    rows: np.ndarray
    id_hi: np.ndarray
    id_lo: np.ndarray
    taken: np.ndarray


def repeats_of(digests: Sequence[Digests]) -> Repeats:
    """Find the rows that occur more than once, and give each its id or mark its id as taken; all other rows are known
    by their digest.

    Rows without an id of their own that are equal get the ids of their occurrence numbers; of rows with the same own
    id the first is kept. Rows whose digests begin alike are looked at together, some millions at a time: of a row that
    stands once nothing is held.

    Args:
        digests: of consecutive rows, batch by batch; best mapped from files.
    """
    starts = np.cumsum([0, *(len(hi) for hi, _, _ in digests)])
    bits = (int(starts[-1]) // _ROWS_AT_ONCE).bit_length()
    found = [_repeats_among(digests, starts, _possible_repeats(digests, starts, bits, n)) for n in range(1 << bits)]
    rows, *columns = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(rows)
    return Repeats(rows[order], *(column[order] for column in columns))


def _possible_repeats(digests: Sequence[Digests], starts: np.ndarray, bits: int, number: int) -> np.ndarray:
    """Find the rows, rising, whose digests begin with these bits and equal another one nearly or wholly: int64
    [rows]."""
    rows, values = [], []
    for (hi, _, _), start in zip(digests, starts, strict=False):
        here = np.flatnonzero(hi >> np.uint64(64 - bits) == number) if bits else np.arange(len(hi))
        rows.append(here + start)
        # The first bits are equal in this slice; without them places fit into the low ones.
        values.append(hi[here] << np.uint64(bits))
    joined = np.concatenate([np.empty(0, dtype=np.uint64), *values])
    # Places stand in the low bits, so that one sort of numbers, several times faster than one of places, tells them.
    places = np.uint64((1 << len(joined).bit_length()) - 1)
    joined &= ~places
    joined |= np.arange(len(joined), dtype=np.uint64)
    joined.sort()
    same = (joined[1:] ^ joined[:-1]) <= places
    alike = joined[np.append(same, [False]) | np.append([False], same)[: len(joined)]] & places if same.any() else []
    return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *rows])[np.asarray(alike, dtype=np.int64)])


def _repeats_among(
    digests: Sequence[Digests], starts: np.ndarray, candidates: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Compute the columns of `Repeats` from candidate rows."""
    hi, lo, content = _gathered(digests, starts, candidates)
    order = np.lexsort((lo, hi))
    repeats = np.append(False, (hi[order][1:] == hi[order][:-1]) & (lo[order][1:] == lo[order][:-1]))[: len(order)]
    first = np.maximum.accumulate(np.where(repeats, 0, np.arange(len(order))))
    rows, heads = order[repeats], order[first[repeats]]
    numbers = (np.arange(len(order)) - first)[repeats].astype(np.uint64)
    named = content[rows] != 0  # rows without an id of their own keep no digest of their content apart
    same = content[rows] == content[heads]
    taken = np.where(named, np.where(same, _AGAIN, CONTRADICTED), FREE).astype(np.int8)
    id_hi = np.where(named, hi[rows], splitmix64(hi[rows] ^ numbers))
    id_lo = np.where(named, lo[rows], splitmix64(lo[rows] + numbers))
    return candidates[rows], id_hi, id_lo, taken


def _gathered(digests: Sequence[Digests], starts: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, ...]:
    """Gather the digests of some rows, given rising."""
    bounds = np.searchsorted(rows, starts)
    found: tuple[list[np.ndarray], ...] = ([], [], [])
    for number in np.flatnonzero(np.diff(bounds)).tolist():
        here = rows[bounds[number] : bounds[number + 1]] - starts[number]
        for column, pieces in zip(digests[number], found, strict=True):
            pieces.append(column[here])
    return tuple(np.concatenate([np.empty(0, dtype=np.uint64), *pieces]) for pieces in found)


def _content(columns: Mapping[str, Any]) -> list[_Piece]:
    """Encode each row as one text that can be taken apart again (`draws.canonical`), in pieces for `_joined`."""
    texts = {name: _texts_of(name, columns[name]) for name in (*_ALWAYS, *_GIVEN)}
    always = [piece for name in _ALWAYS for piece in _measured(texts[name])]
    given = [name for name in _GIVEN if texts[name].null_count < len(texts[name])]
    return always + [piece for name in given for piece in _measured(texts[name], before=_spelt(name), null="")]


def _texts_of(name: str, column: Any) -> _Texts:
    match name:
        case "references" | "options":
            return _texts_of_lists(column, _measured)
        case "extra":
            return _texts_of_lists(column, partial(_measured_fields, names=("name", "value")))
        case "messages":
            return _texts_of_lists(column, _measured_messages)
    return column


def _texts_of_lists(lists: Any, pieces_of: Callable[[Any], list[_Piece]]) -> _Texts:
    """Encode each list as one text, the canonical texts of its elements one after the other; null for null.

    The elements' texts stand one after the other in memory as they are: a list's text is a longer span of the same.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if lists.null_count == len(lists):
        return pa.nulls(len(lists), pa.large_string())
    ends = np.cumsum(np.asarray(pc.list_value_length(lists).fill_null(0)), dtype=np.int64)
    elements = lists.flatten()
    offsets, data = string_buffers(_joined(pieces_of(elements), len(elements)))
    spans = pa.py_buffer(np.ascontiguousarray(offsets[np.concatenate([[0], ends])]))
    valid = pa.array(lists.is_valid().to_numpy(zero_copy_only=False)).buffers()[1] if lists.null_count else None
    return pa.LargeStringArray.from_buffers(len(lists), spans, data, valid)


def _measured_fields(elements: Any, names: Sequence[str]) -> list[_Piece]:
    import pyarrow.compute as pc

    return [piece for name in names for piece in _measured(pc.struct_field(elements, name))]


def _measured_messages(messages: Any) -> list[_Piece]:
    """Encode messages as `_measured_fields` does; each of the few roles is measured once, and is one piece while others
    are three.

    What few messages have beside content is nothing at all where a message has none.
    """
    import pyarrow.compute as pc

    roles = pc.struct_field(messages, "role").dictionary_encode()
    known = _joined(_measured(roles.dictionary), len(roles.dictionary)).take(roles.indices)
    told = [known.fill_null("-"), *_measured_fields(messages, ("content", "trained"))]
    beside = {name: pc.struct_field(messages, name) for name in BESIDE_CONTENT}
    given = [name for name, column in beside.items() if column.null_count < len(column)]
    return told + [piece for name in given for piece in _measured(beside[name], before=_BESIDE + _spelt(name), null="")]


def _measured(column: Any, *, before: str = "", null: str = "-") -> list[_Piece]:
    """Prefix each value with its length. `before` precedes the length; `null` replaces a null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.null_count == len(column):
        return [null]
    if pa.types.is_boolean(column.type):  # each of both words is measured once
        return [pc.if_else(column, *(_constant(_spelt(word)) for word in ("true", "false"))).fill_null(null)]
    lengths = pc.binary_length(column).cast(pa.large_string())
    if not column.null_count:
        return [before, lengths, ":", column]
    heads = pc.binary_join_element_wise(_constant(before), lengths, _constant(":"), _constant(""))
    return [heads.fill_null(null), column]


def _spelt(*texts: str) -> str:
    """Return texts that are the same for all rows, as `_measured` tells them."""
    return "".join(f"{len(text.encode())}:{text}" for text in texts)


def _joined(pieces: Sequence[_Piece], rows: int) -> _Texts:
    """Join the pieces of each row; null counts as empty. Each text is copied once."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns: list[Any] = []
    for alike, run in groupby(pieces, key=lambda piece: isinstance(piece, str)):
        found = list(run)
        columns += [_constant("".join(found))] if alike else found
    if len(columns) == 1 and alike:
        return pa.repeat(columns[0], rows)
    return pc.binary_join_element_wise(*columns, _constant(""), null_handling="replace", null_replacement="")


def _constant(text: str) -> pa.Scalar:
    import pyarrow as pa

    return pa.scalar(text, pa.large_string())
