"""A table of answers on disk, found by the digest of what a question is recognized by.

`answers.arrow` holds them in the order in which they were read; four sorted columns beside it say where each key's
answer stands. All are opened through the memory map: to look up a few thousand answers among millions touches only
those.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.draws import canonical, text_digests
from orca_recipes.contract.frames import BESIDE_ANSWER, completed_messages
from orca_recipes.errors import SourceError

if TYPE_CHECKING:
    import polars as pl

ANSWERS = "answers.arrow"
_KEYS = ("hi", "lo", "batch", "row")
_DIALOGUE = "dialogue"
"""Sets what is found by several messages apart from what is found by one text."""
NO_ANSWER, NO_KEY = "rows without an answer", "rows without what they are found by"
REPEATED = "rows that repeat an answer"


@dataclass(frozen=True)
class _Columns:
    """Index of the recorded answers: arrays [rows] of key (two u64), digest of the answer, and its batch and row on
    disk."""

    hi: np.ndarray
    lo: np.ndarray
    answer: np.ndarray
    batch: np.ndarray
    row: np.ndarray

    def take(self, chosen: np.ndarray) -> _Columns:
        return _Columns(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def write(frames: Iterable[pl.DataFrame], folder: Path, *, by: str, collection: str) -> dict[str, int]:
    """Lay out the answers of a collection's examples; return counts of rows by what became of them.

    Raises: SourceError where one question has two answers.
    """
    import pyarrow as pa

    counts: Counter[str] = Counter(answers=0)
    columns = []
    texts = ("answer", *BESIDE_ANSWER, "file")
    schema = pa.schema([(name, pa.large_string()) for name in texts] + [("place", pa.int64())])
    with pa.OSFile(str(folder / ANSWERS), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for number, frame in enumerate(frames):
            frame = frame.with_columns(completed_messages(frame["messages"]))
            beside = {name: _beside(name) for name in BESIDE_ANSWER}
            told = frame.select("file", "place", key=_key(by), answer=_answer(), **beside)
            whole = told.drop_nulls(["key", "answer"])
            counts[NO_ANSWER] += int(told["answer"].is_null().sum())
            counts[NO_KEY] += int((told["key"].is_null() & told["answer"].is_not_null()).sum())
            columns.append(_columns_of(whole, number))
            table = whole.select(schema.names).to_arrow().cast(schema).combine_chunks()
            writer.write_batch(table.to_batches()[0] if len(table) else pa.RecordBatch.from_pylist([], schema=schema))
    kept, repeated = _sorted(columns, folder, collection)
    for name in _KEYS:
        np.save(folder / f"{name}.npy", getattr(kept, name))
    return dict(counts | {"answers": len(kept.hi), REPEATED: repeated})


def find(examples: pl.DataFrame, folder: Path, *, by: str) -> pl.DataFrame:
    """Look up the answer to each example: String [examples], null where there is none; and what it holds beside."""
    import polars as pl

    keys = examples.select(key=_key(by))["key"]
    hi, lo = text_digests(keys.fill_null(""))
    places = _places(hi, lo, folder)
    # Null keys were digested as empty text, which another row's key may be.
    places[keys.is_null().to_numpy()] = -1
    found = np.flatnonzero(places >= 0)
    texts = _texts(places[found], folder)
    order = np.full(examples.height, -1, dtype=np.int64)
    order[found] = np.arange(len(found))
    rows = pl.Series(order).replace(-1, None)
    return texts[rows] if texts.height else texts.clear(examples.height)


def _key(by: str) -> pl.Expr:
    """Build the key by which a row is found, as one text; null where it has none."""
    import polars as pl

    if by == "id":
        return pl.when(pl.col("id").is_not_null()).then(canonical(pl.col("id")))
    parts = [_question()] if by == "question" else [_system().fill_null(""), _question()]
    several = _dialogue()
    alone = pl.when(_question().is_not_null()).then(canonical(*parts))
    more = pl.when(several.is_not_null()).then(canonical(*parts[:-1], pl.lit(_DIALOGUE), several))
    return pl.coalesce(alone, more)


def _question() -> pl.Expr:
    """Return the question of a row, or the single user message of its conversation."""
    import polars as pl

    context = _context()
    only = (context.list.len() == 1) & (context.list.first().struct.field("role") == "user")
    return pl.coalesce("question", pl.when(only).then(context.list.first().struct.field("content")))


def _dialogue() -> pl.Expr:
    """Join the messages of a conversation, up to the answer sought, to one text; null unless there are several."""
    import polars as pl

    message = pl.element().struct
    told = _context().list.eval(canonical(message.field("role"), message.field("content"))).list.join("")
    return pl.when(_context().list.len() > 1).then(told)


def _context() -> pl.Expr:
    """Select the messages of a conversation, without system messages and without the answer that ends it."""
    import polars as pl

    role = pl.element().struct.field("role")
    spoken = pl.col("messages").list.eval(pl.element().filter(role != "system"))
    return spoken.list.head(spoken.list.len() - _is_answered().cast(pl.UInt32))


def _is_answered() -> pl.Expr:
    """Tell whether the last message of a conversation is an answer."""
    import polars as pl

    return (pl.col("messages").list.last().struct.field("role") == "assistant").fill_null(value=False)


def _system() -> pl.Expr:
    """Select the system message: the one that a conversation begins with, else the row's own."""
    import polars as pl

    first = pl.col("messages").list.first().struct
    return pl.coalesce(pl.when(first.field("role") == "system").then(first.field("content")), "system")


def _answer() -> pl.Expr:
    """Select a row's answer, as the teacher `reference` would without a draw; a blank text is no answer, unless it
    calls tools."""
    import polars as pl

    last = pl.when(_is_last()).then(pl.col("messages").list.last().struct.field("content").fill_null(""))
    return pl.coalesce(_said(pl.col("answer")), last, _said(pl.col("references").list.first()))


def _said(text: pl.Expr) -> pl.Expr:
    import polars as pl

    return pl.when(text.str.strip_chars() != "").then(text)


def _is_last() -> pl.Expr:
    """Tell whether the answer is the last message of the conversation."""
    import polars as pl

    last = pl.col("messages").list.last().struct
    says = _said(last.field("content")).is_not_null() | last.field("tool_calls").is_not_null()
    return _said(pl.col("answer")).is_null() & _is_answered() & says.fill_null(value=False)


def _beside(name: str) -> pl.Expr:
    """Select what the answer holds beside its text, null where it is no message."""
    import polars as pl

    return pl.when(_is_last()).then(pl.col("messages").list.last().struct.field(name))


def _columns_of(rows: pl.DataFrame, batch: int) -> _Columns:
    import polars as pl

    hi, lo = text_digests(rows["key"])
    places = np.arange(rows.height, dtype=np.int32)
    beside = [pl.col(name).fill_null("") for name in BESIDE_ANSWER]
    has_more = pl.any_horizontal(pl.col(name).is_not_null() for name in BESIDE_ANSWER)
    whole = pl.when(has_more).then(canonical(pl.col("answer"), *beside)).otherwise("answer")
    answers = text_digests(rows.select(answer=whole)["answer"])[0]
    return _Columns(hi, lo, answers, np.full(rows.height, batch, dtype=np.int32), places)


def _sorted(columns: list[_Columns], folder: Path, collection: str) -> tuple[_Columns, int]:
    """Sort all rows by key and keep one of each key; also count the repeats left out. Two answers to one key are
    refused."""
    empty = [np.empty(0, dtype=np.uint64)] * 3 + [np.empty(0, dtype=np.int32)] * 2
    parts = [_Columns(*empty), *columns]
    names = _Columns.__dataclass_fields__
    joined = _Columns(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
    # Equal keys stay in the order read, so that the first answer is kept.
    joined = joined.take(np.lexsort((joined.row, joined.batch, joined.lo, joined.hi)))
    same = (joined.hi[1:] == joined.hi[:-1]) & (joined.lo[1:] == joined.lo[:-1])
    differing = np.flatnonzero(same & (joined.answer[1:] != joined.answer[:-1]))
    if len(differing):
        _refuse(joined.take(differing[0] + np.arange(2)), len(differing), folder, collection)
    keep = np.append(True, ~same)[: len(joined.hi)]
    return joined.take(np.flatnonzero(keep)), int((~keep).sum())


def _refuse(pair: _Columns, many: int, folder: Path, collection: str) -> None:
    rows = [_row(folder, int(batch), int(row)) for batch, row in zip(pair.batch, pair.row, strict=True)]
    first, second = (f"{row['file'] or collection}:{row['place']}" for row in rows)
    more = f" ({many - 1} more such pairs)" if many > 1 else ""
    raise SourceError(
        f"collections.{collection}: {first} and {second} answer one question in two ways{more}; "
        'keep one of them, or let `by` tell them apart ("id", "system_and_question")'
    )


def _places(hi: np.ndarray, lo: np.ndarray, folder: Path) -> np.ndarray:
    """Find each key among the sorted ones: int64 [keys], -1 where it is missing."""
    sorted_hi, sorted_lo = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("hi", "lo"))
    places = np.searchsorted(sorted_hi, hi).astype(np.int64)
    found = np.full(len(hi), -1, dtype=np.int64)
    open_ones = np.arange(len(hi))
    while len(open_ones):  # once more only where two keys share their first half
        here = places[open_ones]
        open_ones, here = open_ones[here < len(sorted_hi)], here[here < len(sorted_hi)]
        same_hi = sorted_hi[here] == hi[open_ones]
        open_ones, here = open_ones[same_hi], here[same_hi]
        same = sorted_lo[here] == lo[open_ones]
        found[open_ones[same]] = here[same]
        open_ones = open_ones[~same]
        places[open_ones] += 1
    return found


def _texts(places: np.ndarray, folder: Path) -> pl.DataFrame:
    """Read the answers at places of the sorted keys, with what they hold beside: String [places] each."""
    import polars as pl
    import pyarrow as pa

    names = ["answer", *BESIDE_ANSWER]
    batches, rows = (np.load(folder / f"{name}.npy", mmap_mode="r")[places] for name in ("batch", "row"))
    # Batch by batch, so that each is opened once, however the questions lie among them.
    order = np.argsort(batches, kind="stable")
    bounds = np.flatnonzero(np.append(True, np.diff(batches[order]) != 0)) if len(order) else np.empty(0, np.int64)
    pieces = [pa.schema([(name, pa.large_string()) for name in names]).empty_table()]
    with pa.memory_map(str(folder / ANSWERS)) as file:
        reader = pa.ipc.open_file(file)
        for chosen in np.split(order, bounds[1:]) if len(order) else []:
            batch = reader.get_batch(int(batches[chosen[0]])).select(names)
            pieces.append(pa.Table.from_batches([batch]).take(pa.array(rows[chosen])))
        texts = pl.DataFrame(pl.from_arrow(pa.concat_tables(pieces)))
    back = np.empty(len(order), dtype=np.int64)
    back[order] = np.arange(len(order))
    return texts[pl.Series(back)]


def _row(folder: Path, batch: int, row: int) -> Mapping[str, Any]:
    import pyarrow as pa

    with pa.memory_map(str(folder / ANSWERS)) as file:
        found: Mapping[str, Any] = pa.ipc.open_file(file).get_batch(batch).slice(row, 1).to_pylist()[0]
        return found
