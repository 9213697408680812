"""Checks that a kind keeps the promises of the contract, for built-in kinds and a stranger's alike.

Call them from a test with an instance of your kind: `check_source(Mine(path=...), tmp_path)`. Each failure is an
AssertionError whose sentence says which promise is broken and why it matters.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.checks.exporter_checks import check_exporter as check_exporter
from orca_recipes.contract.checks.other_checks import (
    check_engine,
    check_teacher,
    check_template,
    check_tokenizer,
    check_writer,
)
from orca_recipes.contract.checks.promises import check_kind, expect
from orca_recipes.contract.checks.promises import example_kinds as example_kinds
from orca_recipes.contract.draws import splitmix64
from orca_recipes.contract.frames import extra_type, messages_type, rejected_rows_schema, rows_schema
from orca_recipes.contract.kinds import Filter, Packer, Packing, Slice, Source, SourceFile, Strategy
from orca_recipes.contract.samples import sample_conversations, sample_examples
from orca_recipes.errors import OverlongExample
from orca_recipes.shards.layout import ROLES

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "check_engine",
    "check_exporter",
    "check_filter",
    "check_kind",
    "check_packer",
    "check_source",
    "check_strategy",
    "check_teacher",
    "check_template",
    "check_tokenizer",
    "check_writer",
]

# More bytes than a test's file has: one slice.
_WHOLE = 1 << 40


def check_source(source: Source, tmp_path: Path) -> None:
    """Check a source that has something to read: its rows, their places, and that no way of reading changes them.

    Args:
        tmp_path: an empty folder; the source is also read by another process, whose answer is put there.
    """
    check_kind(source)
    files = list(source.files())
    _check_files(files)
    _check_pins(source)
    slices = list(source.slices(slice_bytes=_WHOLE))
    whole = _read(source, slices)
    expect(len(whole[0]) > 0, "the source read no row at all; give it something to read")
    declared = source.declared_rows()
    found = len(whole[0]) + len(whole[1])
    expect(declared in (None, found), f"declared_rows says {declared}, but {found} rows were read or rejected")
    _expect_keeps(whole[0], source.kept_columns())
    _expect_same(whole, _read(source, slices), "reading twice gives other rows")
    _expect_same(whole, _read(source, slices[::-1]), "reading the slices in another order gives other rows")
    for slice_bytes in _ways_to_cut(files):
        cut = list(source.slices(slice_bytes=slice_bytes))
        expect(cut == list(source.slices(slice_bytes=slice_bytes)), "slices are cut in another way each time")
        _expect_same(whole, _read(source, cut), f"slices of {slice_bytes} bytes give other rows or places")
    _expect_same(whole, _read_apart(source, tmp_path), "another process, with another PYTHONHASHSEED, reads other rows")


def check_filter(filter: Filter, conversations: pl.DataFrame | None = None) -> None:
    """Check a filter: each conversation's reason is its own, whatever stands beside it.

    Args:
        conversations: columns of `frames.CONVERSATIONS`; unset, one of each shape.
    """
    import polars as pl

    check_kind(filter)
    frame = sample_conversations() if conversations is None else conversations
    reasons = _check_by_row("reasons", lambda part: filter.reasons(conversations=part), frame, pl.String())
    expect(not (reasons.str.strip_chars() == "").any(), "a reason is empty; a conversation that is kept has null")
    _check_turn_reasons(filter, frame.filter(reasons.is_null()))


def _check_turn_reasons(filter: Filter, kept: pl.DataFrame) -> None:
    """Check the reasons for leaving answers untrained: one or none for each message."""
    import polars as pl

    if filter.turn_reasons(conversations=kept) is None:
        return

    def answer(part: pl.DataFrame) -> pl.Series:
        found = filter.turn_reasons(conversations=part)
        assert found is not None, "turn_reasons returns None for some frames and a Series for others"
        return found

    reasons = _check_by_row("turn_reasons", answer, kept, pl.List(pl.String))
    there = reasons.is_not_null()
    counts = [column.filter(there).list.len() for column in (reasons, kept["messages"])]
    expect(counts[0].equals(counts[1]), "turn_reasons gives lists that have not an entry for each message")
    expect(not (reasons.explode().str.strip_chars() == "").any(), "a reason is empty; a trained answer has null")


def check_strategy(strategy: Strategy, examples: pl.DataFrame | None = None) -> None:
    """Check a strategy: what it asks and teaches of each example is its own, and only answers are trained.

    Args:
        examples: columns of `frames.EXAMPLES`; unset, questions with and without a system message.
    """
    import polars as pl

    check_kind(strategy)
    frame = sample_examples() if examples is None else examples
    asked = _check_by_row("ask", lambda part: strategy.ask(examples=part), frame, messages_type())
    _check_messages(asked, "ask")
    _check_columns(strategy, frame, asked)
    answered = frame.with_columns(answers=pl.format("The answer to number {}.", "place"))
    taught = _check_by_row(
        "teach",
        lambda part: strategy.teach(examples=part.drop("answers"), answers=part["answers"]),
        answered,
        messages_type(),
    )
    _check_messages(taught, "teach")
    message = pl.element().struct
    trained = taught.list.eval(message.field("role").filter(message.field("trained")))
    expect(bool((trained.list.len() > 0).all()), "teach marks nothing as trained in some conversation")
    roles = set(trained.explode().drop_nulls())
    expect(roles <= {"assistant"}, f"teach trains on messages of {sorted(roles)}; only an assistant's are answers")


def check_packer(packer: Packer) -> None:
    """Check a packer: every example lies in one row that has room, and order of arrival decides nothing."""
    check_kind(packer)
    longest = packer.row_tokens // packer.align
    for count in (0, 1, 2, 1000):
        numbers = splitmix64(np.arange(count, dtype=np.uint64))
        lengths = (1 + (numbers >> np.uint64(11)) % np.uint64(longest)).astype(np.int32) * np.int32(packer.align)
        keys = splitmix64(numbers)
        rows = _check_packing(packer, lengths, keys)
        expect(rows == _check_packing(packer, lengths, keys), "packing twice gives other rows")
        shuffled = np.argsort(splitmix64(keys), kind="stable")
        again = _check_packing(packer, lengths[shuffled], keys[shuffled])
        expect(rows == [[int(shuffled[one]) for one in row] for row in again], "other rows if examples come shuffled")
    try:
        packer.pack(
            lengths=np.array([packer.row_tokens + 1], np.int32),
            keys=np.zeros(1, np.uint64),
            row_tokens=packer.row_tokens,
        )
    except OverlongExample:
        return
    raise AssertionError("an example longer than a row must raise OverlongExample; the packer took it")


def read_apart(folder: Path) -> None:
    """Read the source pickled in `folder`, as the other process of `check_source`."""
    source, slices = pickle.loads((folder / "source.pickle").read_bytes())
    rows, rejected = _read(source, slices)
    rows.write_ipc(folder / "rows.arrow")
    rejected.write_ipc(folder / "rejected.arrow")


# --- sources ---------------------------------------------------------------------------------------------------------


def _check_files(files: Sequence[SourceFile]) -> None:
    names = [file.name for file in files]
    expect(names == sorted(names), "files are not sorted by name, so their order differs from machine to machine")
    expect(len(set(names)) == len(names), "two files have one name, so a row's file does not say where it lies")
    for file in files:
        pure = PurePosixPath(file.name)
        relative = not pure.is_absolute() and ".." not in pure.parts and "\\" not in file.name
        expect(relative, f"file name {file.name!r} is not relative to the source's folder, with forward slashes")
        expect(file.path.is_file(), f"{file.path} is no file")


def _check_pins(source: Source) -> None:
    pins = source.pins()
    texts = all(isinstance(text, str) for pin in pins.items() for text in pin)
    expect(texts, f"pins are names and versions, both texts; these are {pins!r}")
    expect(dict(pins) == dict(source.pins()), "pins differ each time they are asked for")


def _ways_to_cut(files: Sequence[SourceFile]) -> Sequence[int]:
    total = sum(file.path.stat().st_size for file in files) or 1 << 16
    return [total // parts + 1 for parts in (2, 7, 31)]


def _read(source: Source, slices: Sequence[Slice]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read all rows and all rejected rows, with their file, sorted by file and place."""
    import polars as pl

    rows, rejected = [], []
    for slice in slices:
        last = slice.first_place - 1
        for reading in source.read(slice=slice):
            _check_reading(reading.rows, reading.rejected, after=last)
            last = max([last, *reading.rows["place"], *reading.rejected["place"]])
            file = pl.lit("" if slice.file is None else slice.file.name).alias("file")
            present = [
                pl.col(name).cast(dtype) for name, dtype in rows_schema().items() if name in reading.rows.columns
            ]
            missing = [
                pl.lit(None, dtype=d).alias(n) for n, d in rows_schema().items() if n not in reading.rows.columns
            ]
            rows.append(reading.rows.select(file, *present, *missing).select("file", *rows_schema()))
            rejected.append(reading.rejected.select(file, "place", "reason"))
    empty = pl.DataFrame(schema={"file": pl.String, **rows_schema()})
    none = pl.DataFrame(schema={"file": pl.String, **rejected_rows_schema()})
    whole = pl.concat([empty, *rows]).sort("file", "place"), pl.concat([none, *rejected]).sort("file", "place")
    places = pl.concat([part.select("file", "place") for part in whole])
    expect(not places.is_duplicated().any(), "two rows of a file have one place, so a place does not say which row")
    return whole


def _check_reading(rows: pl.DataFrame, rejected: pl.DataFrame, *, after: int) -> None:
    import polars as pl

    schema = rows_schema()
    expect("place" in rows.columns, 'rows have no column "place"')
    for name, dtype in rows.schema.items():
        expect(name in schema, f"rows have a column {name!r}, which the contract does not know")
        fits = dtype in (schema[name], pl.Null())
        expect(fits, f"column {name!r} of the rows is {dtype}, the contract says {schema[name]}")
    expect(dict(rejected.schema) == rejected_rows_schema(), f"rejected rows must be {rejected_rows_schema()}")
    for places in (rows["place"], rejected["place"]):
        expect(places.null_count() == 0, "a row has no place")
        expect(places.is_sorted(), "rows do not come in order of place")
        expect(places.is_empty() or int(places[0]) > after, "a slice holds a place of before its first_place")
    reasons = rejected["reason"].fill_null("").str.strip_chars()
    expect(not (reasons == "").any(), "a row is rejected without a reason")
    if "messages" in rows.columns:
        _check_messages(rows["messages"].drop_nulls(), "messages")


def _read_apart(source: Source, tmp_path: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    import polars as pl

    order = (source, list(source.slices(slice_bytes=_WHOLE)))
    (tmp_path / "source.pickle").write_bytes(pickle.dumps(order))
    # Another seed than here, so that an order taken from hashes shows.
    hash_seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    # An empty place would be the other process's current folder.
    path = os.pathsep.join(place for place in sys.path if place)
    program = "import sys, pathlib, orca_recipes.contract.testing as t; t.read_apart(pathlib.Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, str(tmp_path)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    expect(done.returncode == 0, f"another process, as engines use them, cannot read the source:\n{done.stderr}")
    rows, rejected = (pl.read_ipc(tmp_path / f"{name}.arrow") for name in ("rows", "rejected"))
    return rows, rejected


def _expect_keeps(rows: pl.DataFrame, told: Collection[str] | None) -> None:
    """Expect that rows keep no other columns in `extra` than the source tells."""
    if told is None or rows["extra"].null_count() == rows.height:
        return
    kept = rows["extra"].explode().drop_nulls().struct.field("name").unique().to_list()
    expect(set(kept) <= set(told), f"rows keep columns {sorted(kept)}, and kept_columns names {sorted(told)}")


def _expect_same(
    first: tuple[pl.DataFrame, pl.DataFrame], second: tuple[pl.DataFrame, pl.DataFrame], sentence: str
) -> None:
    for one, other, what in zip(first, second, ("rows", "rejected rows"), strict=True):
        expect(one.equals(other), f"{sentence} ({what}: {one.height} and {other.height})")


# --- rows and packings -----------------------------------------------------------------------------------------------


def _check_by_row(name: str, answer: Callable[[pl.DataFrame], pl.Series], frame: pl.DataFrame, dtype: Any) -> pl.Series:
    """Return the answer for the frame, once it is seen to be the same for each row in any order, part and
    repetition."""
    import polars as pl

    before = frame.clone()
    whole = answer(frame)
    expect(isinstance(whole, pl.Series), f"{name} must return a polars Series")
    expect(whole.dtype == dtype, f"{name} returns {whole.dtype}, the contract says {dtype}")
    expect(len(whole) == len(frame), f"{name} returns {len(whole)} values for {len(frame)} rows")
    expect(frame.equals(before), f"{name} changes the frame that it is given")
    expect(whole.equals(answer(frame), null_equal=True), f"{name} answers otherwise the second time")
    shuffled = np.argsort(splitmix64(np.arange(len(frame), dtype=np.uint64)), kind="stable")
    moved = answer(frame[shuffled])
    expect(whole[shuffled].equals(moved, null_equal=True), f"{name} depends on the order of rows")
    parts = [answer(part) for part in _parts(frame)] or [whole]
    expect(whole.equals(pl.concat(parts), null_equal=True), f"{name} depends on which rows come together")
    none = answer(frame.head(0))
    expect(len(none) == 0 and none.dtype == dtype, f"{name} must return {dtype} for no rows; it returns {none.dtype}")
    return whole


def _parts(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    for start in range(0, len(frame), 5):
        yield frame.slice(start, 5)


def _check_messages(messages: pl.Series, name: str) -> None:
    import polars as pl

    parts = messages.explode().drop_nulls().struct.unnest() if len(messages) else pl.DataFrame()
    if parts.is_empty():
        return
    unknown = set(parts["role"].unique()) - set(ROLES[1:])
    expect(not unknown, f"{name} has messages of unknown roles {sorted(map(str, unknown))}; roles are {ROLES[1:]}")
    for column in ("content", "trained"):
        expect(parts[column].null_count() == 0, f"{name} has a message whose {column} is null")


def _check_columns(strategy: Strategy, examples: pl.DataFrame, asked: pl.Series) -> None:
    """Check that a strategy with named columns asks the same when other columns change."""
    import polars as pl

    named = strategy.columns()
    if named is None:
        return
    words = [word for word in ("task", "category", "language", "reasoning") if word not in named]
    changed = examples.with_columns(pl.lit("something else").alias(word) for word in words)
    added = pl.lit([{"name": "another column", "value": "x"}], dtype=extra_type())
    changed = changed.with_columns(extra=pl.concat_list(pl.col("extra").fill_null([]), added).cast(extra_type()))
    if "options" not in named:
        changed = changed.with_columns(options=pl.lit(["one", "two"], dtype=pl.List(pl.String)))
    expect(
        asked.equals(strategy.ask(examples=changed), null_equal=True),
        f"ask looks at columns that columns() does not name; it names {sorted(named)}, and rows that differ in others "
        "would be dropped as duplicates",
    )


def _check_packing(packer: Packer, lengths: np.ndarray, keys: np.ndarray) -> list[list[int]]:
    """Return a packing's rows, after checking that each example lies in one of them and each has room."""
    packing = packer.pack(lengths=lengths, keys=keys, row_tokens=packer.row_tokens)
    expect(isinstance(packing, Packing), "pack must return a Packing")
    expect(packing.order.dtype == np.int64 and packing.row_starts.dtype == np.int64, "a Packing's arrays are int64")
    every = np.array_equal(np.sort(packing.order), np.arange(len(lengths)))
    expect(every, "an example is lost or stands in two places")
    starts = packing.row_starts
    bounds = len(starts) > 0 and starts[0] == 0 and starts[-1] == len(lengths) and bool((np.diff(starts) > 0).all())
    expect(bounds, "row_starts must go from 0 to the number of examples, and no row may be empty")
    rows = [[int(one) for one in packing.order[start:stop]] for start, stop in pairwise(starts)]
    for row in rows:
        expect(int(lengths[row].sum()) <= packer.row_tokens, f"a row holds more than {packer.row_tokens} tokens")
    return rows
