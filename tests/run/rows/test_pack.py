"""Which shard an example is in, and where it stands among the examples of its shard."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca_plugins.packers.best_fit import BestFit
from orca_recipes.contract.draws import draw_keys
from orca_recipes.run.rows import overlong_policy as fit
from orca_recipes.run.rows.cut import Cut
from orca_recipes.run.rows.pack import keyed_order, pack_dataset
from orca_recipes.run.rows.units import STORED, Unit
from orca_recipes.store.arrow_files import read_frame, write_frame
from orca_recipes.store.stage_folder import StageFolder

HALVES = st.integers(0, 2**64 - 1) | st.integers(0, 3)
TYPES = (pl.UInt64, pl.UInt64, pl.Int32, pl.Int32, pl.Int8, pl.UInt64, pl.UInt64, pl.UInt64, pl.UInt64)
ROW_TOKENS = 8
EXAMPLES = st.lists(st.tuples(HALVES, HALVES, st.integers(1, 11)), max_size=12, unique_by=lambda one: one[:2])
"""A unit: id_hi, id_lo and tokens of each example."""


@given(
    ids=st.lists(st.tuples(HALVES, HALVES), max_size=30, unique=True),
    keys=st.lists(HALVES, min_size=30, max_size=30),
)
def test_the_examples_of_a_shard_stand_by_key_then_id(ids: list[tuple[int, int]], keys: list[int]):
    high, low = (np.array([half[part] for half in ids], dtype=np.uint64) for part in (0, 1))
    order = keyed_order(id_hi=high, id_lo=low, keys=np.array(keys[: len(ids)], dtype=np.uint64))
    assert order.tolist() == sorted(range(len(ids)), key=lambda at: (keys[at], *ids[at]))


def unit_of(folder: Path, number: int, examples: list[tuple[int, int, int]]) -> Unit:
    unit = Unit("c", folder / f"unit-{number}")
    rows = [
        (hi, lo, tokens, tokens - 1, place % 2, hi ^ 1, lo ^ 1, hi ^ 2, lo ^ 2)
        for place, (hi, lo, tokens) in enumerate(examples)
    ]
    frame = pl.DataFrame(rows, schema=dict(zip(STORED, TYPES, strict=True)), orient="row")
    lines = pl.Series("place", range(len(rows)), dtype=pl.Int64)
    write_frame(unit.records, frame.with_columns(lines, file=pl.lit("f", dtype=pl.String)))
    return unit


def cut_at_the_row(prefix: Path, index: int, **_: Any) -> Cut | str:
    """Stands in for decoding: every third example has nothing left to train on."""
    return "nothing is left" if index % 3 == 2 else Cut(ROW_TOKENS, 1, 2, 5, 6, 7, 8)


def fitting(examples: list[tuple[int, int, int]], *, is_cut: bool) -> list[tuple[int, ...]]:
    """index, id_hi, id_lo, tokens, trained_tokens, flags, halves of two digests of what is left: one by one."""
    found = []
    for index, (hi, lo, tokens) in enumerate(examples):
        if tokens <= ROW_TOKENS:
            found.append((index, hi, lo, tokens, tokens - 1, index % 2, hi ^ 1, lo ^ 1, hi ^ 2, lo ^ 2))
        elif is_cut and index % 3 != 2:
            found.append((index, hi, lo, ROW_TOKENS, 1, 2, 5, 6, 7, 8))
    return found


def as_packed(examples: list[tuple[int, ...]], packer: BestFit) -> list[tuple[int, ...]]:
    """Examples (unit, index, id_hi, id_lo, tokens, ...) by key and id, and then as the packer orders them."""
    ids = np.array([one[2:4] for one in examples], dtype=np.uint64).reshape(-1, 2)
    keys = draw_keys(id_hi=ids[:, 0], id_lo=ids[:, 1], seed=1, purpose="rows")
    order = sorted(range(len(examples)), key=lambda at: (keys[at], *ids[at]))
    lengths = np.array([examples[at][4] for at in order], dtype=np.int32)
    if not order:
        return []
    packing = packer.pack(lengths=lengths, keys=keys[order], row_tokens=ROW_TOKENS)
    return [examples[order[at]] for at in packing.order.tolist()]


def order_of(folder: StageFolder, part: str) -> list[tuple[int, ...]]:
    return read_frame(folder.part(part).file(".order.arrow")).select("unit", "index", *STORED).rows()


@given(units=st.lists(EXAMPLES, max_size=4), is_cut=st.booleans(), shard_tokens=st.sampled_from([9, 30, 1000]))
@settings(max_examples=60, deadline=None)
def test_every_example_that_fits_stands_in_the_shard_of_its_id(
    units: list[list[tuple[int, int, int]]], is_cut: bool, shard_tokens: int
):
    left = [(unit, *one) for unit, examples in enumerate(units) for one in fitting(examples, is_cut=is_cut)]
    tokens = sum(one[4] for one in left)
    shards = max(1, -(-tokens // shard_tokens))
    packer = BestFit(kind="best_fit", row_tokens=ROW_TOKENS, overlong="truncate" if is_cut else "drop")
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "cut_example", cut_at_the_row)
        folder = StageFolder(Path(name))
        made = [unit_of(folder.path, number, examples) for number, examples in enumerate(units)]
        names, report = pack_dataset(
            folder,
            units=made,
            packer=packer,
            shard_tokens=shard_tokens,
            seed=1,
            open_encoder=object,  # type: ignore[arg-type]
            turn_ends=(),
        )
        orders = {folder.part(part).report["shard"]: order_of(folder, part) for part in names[:-1]}
        lost = read_frame(folder.part(names[-1]).file(".rejected.arrow"))
    for shard in range(shards):
        assert orders.get(shard, []) == as_packed([one for one in left if one[3] % shards == shard], packer)
    assert report["tokens"] == tokens
    assert (report["out"], report["shards"]) == (len(left), shards)
    assert report["in"] == report["out"] + lost.height == sum(map(len, units))
    assert report["trained_tokens"] == sum(one[5] for one in left)
    assert report["longest_example"] == max((one[4] for one in left), default=0)
    assert report["truncated"] == sum(one[6] == 2 for one in left)
