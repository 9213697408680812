"""Rows become a shard and its records: the examples that packing chose, in its order, cut where it cut them."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca_plugins.writers.megatron import Megatron
from orca_recipes.run.rows import write
from orca_recipes.run.rows.units import Unit
from orca_recipes.run.rows.write import WriteTask, write_half
from orca_recipes.shards.layout import STARTS, records_path
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.records import records_schema
from orca_recipes.shards.table_digest import content_digest_of_table
from orca_recipes.shards.writer import write_pair
from orca_recipes.store.arrow_files import write_frame

EXAMPLES = st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=5)
"""A unit: of each example, the lengths of its segments."""


def unit_of(folder: Path, number: int, examples: list[list[int]]) -> Unit:
    """Tokens count up through all units, so that each is known."""
    prefix = folder / f"unit-{number}"
    lengths = np.array([length for example in examples for length in example], dtype=np.int32)
    counts = [len(example) for example in examples]
    modes = np.array([STARTS * (place == 0) + place % 2 for count in counts for place in range(count)], dtype=np.int8)
    write_pair(
        prefix=prefix,
        vocabulary_size=60_000,
        blocks=iter([number * 1000 + np.arange(lengths.sum())]),
        segment_lengths=lengths,
        segment_modes=modes,
        row_starts=np.concatenate([[0], np.cumsum(counts)]),
    )
    names = [f"{number}.{place}" for place in range(len(examples))]
    known = [place if place % 2 else None for place in range(len(examples))]
    texts: dict[str, list[str | None]] = {
        **{key: [*names] for key in ("task", "strategy", "system_message", "teacher")},
        "file": [None, *names[1:]],
        "teacher_view": [name if place % 3 else None for place, name in enumerate(names)],
    }
    numbers = {"place": pl.Series(range(len(examples)), dtype=pl.Int64)}
    halves = {name: pl.Series(known, dtype=pl.UInt64) for name in ("question_hi", "question_lo")}
    kept = {name: pl.Series([7] * len(names), dtype=pl.UInt64) for name in ("kept_question_hi", "kept_question_lo")}
    columns = {name: pl.Series(column, dtype=pl.String) for name, column in texts.items()}
    unit = Unit(f"collection-{number % 2}", prefix)
    write_frame(unit.records, pl.DataFrame({**columns, **numbers, **halves, **kept}))
    return unit


def packed(folder: Path, units: list[list[list[int]]], chosen: list[tuple[int, int, int]]) -> tuple[Any, Any]:
    """Write both halves of a shard of (unit, index, tokens), one example a row; the shard and its records."""
    frame = pl.DataFrame(chosen, schema={"unit": pl.Int32, "index": pl.Int32, "tokens": pl.Int32}, orient="row")
    ids = {
        name: pl.Series(range(len(chosen)), dtype=pl.UInt64)
        for name in ("id_hi", "id_lo", "text_hi", "text_lo", "ids_hi", "ids_lo")
    }
    frame = frame.with_columns(**ids, trained_tokens=pl.lit(1, pl.Int32), flags=pl.lit(0, pl.Int8))
    write_frame(folder / "order.arrow", frame)
    write_frame(folder / "rows.arrow", pl.DataFrame({"start": np.arange(len(chosen) + 1)}))
    made = tuple(unit_of(folder, number, examples) for number, examples in enumerate(units))
    paths = (folder / "order.arrow", folder / "rows.arrow")
    halves = [
        write_half(WriteTask(*paths, made, folder / "00000", 60_000, Megatron(kind="megatron"), half))  # type: ignore[arg-type]
        for half in ("tokens", "records")
    ]
    return halves, pl.read_parquet(records_path(folder / "00000"))


@given(units=st.lists(EXAMPLES, min_size=1, max_size=4), data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_shard_holds_the_chosen_examples_cut_where_packing_cut_them(units: list[list[list[int]]], data: Any):
    every = [(number, index) for number, examples in enumerate(units) for index in range(len(examples))]
    order = data.draw(st.lists(st.sampled_from(every), min_size=1, unique=True))
    cuts = data.draw(st.booleans())
    whole = [sum(units[unit][index]) for unit, index in order]
    tokens = [data.draw(st.integers(1, total)) if cuts else total for total in whole]
    band, block = data.draw(st.sampled_from([(1, 1), (9, 4), (write.BAND_TOKENS, write.BLOCK_TOKENS)]))
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "BAND_TOKENS", band)
        patch.setattr(write, "BLOCK_TOKENS", block)
        chosen = [(unit, index, count) for (unit, index), count in zip(order, tokens, strict=True)]
        _, records = packed(Path(folder), units, chosen)
        shard = Shard.open(Path(folder) / "00000")
        for row, (unit, index, count) in enumerate(chosen):
            first = unit * 1000 + sum(sum(example) for example in units[unit][:index])
            assert shard.row(row).tokens.tolist() == list(range(first, first + count))
            ends = np.minimum(np.cumsum(units[unit][index]), count)
            lengths = np.diff(ends, prepend=0)
            assert shard.row(row).segments.lengths.tolist() == lengths[lengths > 0].tolist()
        assert records["task"].to_list() == [f"{unit}.{index}" for unit, index in order]


def test_records_tell_where_each_example_came_from(tmp_path: Path):
    chosen = [(1, 1, 3), (0, 0, 2), (1, 0, 1)]
    (_, half), records = packed(tmp_path, [[[2]], [[1], [3]]], chosen)
    assert records.columns == records_schema().names
    assert records["collection"].to_list() == ["collection-1", "collection-0", "collection-1"]
    assert records["file"].to_list() == ["1.1", None, None]
    assert records["line"].to_list() == [1, 0, 0]
    for name in ("id", "text_digest", "ids_xxh3"):
        assert records[name].to_list() == [2 * place.to_bytes(8, "big") for place in range(3)]
    assert records["turn"].to_list() == [-1, -1, -1]
    assert records["question_digest"].to_list() == [2 * bytes([0, 0, 0, 0, 0, 0, 0, 1]), None, None]
    assert records["teacher_view"].to_list() == ["1.1", None, None]
    assert records["kept_question_digest"].to_list() == [2 * bytes([0, 0, 0, 0, 0, 0, 0, 7]), None, None]
    assert half.shard.tasks == {
        "collection-0": {"0.0": (1, 2, 1)},
        "collection-1": {"1.0": (1, 1, 1), "1.1": (1, 3, 1)},
    }
    assert (half.shard.examples, half.shard.tokens, half.shard.trained_tokens) == (3, 6, 3)


@pytest.mark.parametrize("chosen", [[(0, 0, 2)], [(1, 1, 3), (0, 0, 2), (1, 0, 1)]])
def test_the_promised_content_is_what_the_file_holds(tmp_path: Path, chosen: list[tuple[int, int, int]]):
    (_, half), _ = packed(tmp_path, [[[2]], [[1], [3]]], chosen)
    path = records_path(tmp_path / "00000")
    assert half.content_digests == {path: content_digest_of_table(path)}


def test_a_pair_that_was_made_again_under_its_name_is_read_as_it_is_now(tmp_path: Path):
    packed(tmp_path, [[[2]]], [(0, 0, 2)])
    for file in tmp_path.glob("unit-0.*"):
        file.unlink()
    packed(tmp_path, [[[3]]], [(0, 0, 3)])
    assert Shard.open(tmp_path / "00000").row(0).tokens.tolist() == [0, 1, 2]
