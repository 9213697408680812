"""Which rows a draw takes: held against sorting everything, which is what it must equal."""

from collections.abc import Iterable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.contract.draws import draw_keys
from orca_recipes.plan.mixture import cut_of
from orca_recipes.run.mixtures.draw import Chunk, drawn_copies, measured


class Rows:
    """A pool in chunks, that remembers how often it was read."""

    def __init__(self, group: np.ndarray, weight: np.ndarray | None = None, chunk: int = 100, hi: int = 9) -> None:
        self.columns = (
            np.full(len(group), hi, dtype=np.uint64),
            np.arange(len(group), dtype=np.uint64) * np.uint64(7),
            group.astype(np.int32),
        )
        self.weight, self.chunk, self.reads = weight, chunk, 0

    def __call__(self) -> Iterable[Chunk]:
        self.reads += 1
        for start in range(0, len(self.columns[0]), self.chunk):
            piece = slice(start, start + self.chunk)
            yield Chunk(
                *(column[piece] for column in self.columns), None if self.weight is None else self.weight[piece]
            )


def copies_of(rows: Rows, counts: list[int], *, repeat: int = 1, seed: int = 1) -> np.ndarray:
    sizes = measured(rows, len(counts))
    cuts = [cut_of(count, int(size), repeat) for count, size in zip(counts, sizes.weights, strict=True)]
    return drawn_copies(rows, cuts=cuts, sizes=sizes, seed=seed)


def sorted_copies(rows: Rows, counts: list[int], *, repeat: int = 1, seed: int = 1) -> np.ndarray:
    """The same by sorting, group by group and row by row."""
    hi, lo, group = rows.columns
    keys = draw_keys(id_hi=hi, id_lo=lo, seed=seed, purpose="mixture")
    copies = np.zeros(len(group), dtype=np.int64)
    for number, count in enumerate(counts):
        members = [at for at in np.lexsort((lo, hi, keys)) if group[at] == number]
        weights = [1 if rows.weight is None else int(rows.weight[at]) for at in members]
        cut, running = cut_of(count, sum(weights), repeat), 0
        for place, (at, weight) in enumerate(zip(members, weights, strict=True)):
            running += weight
            past = running > cut.weight
            first_past = past and running - weight <= cut.weight
            assert place or running == weight
            copies[at] = cut.above if not past else cut.boundary if first_past else cut.below
    return copies


@given(st.lists(st.integers(-1, 3), max_size=400), st.data(), st.integers(1, 3), st.integers(1, 90))
def test_a_draw_equals_the_prefix_of_each_groups_keyed_order(
    groups: list[int], data: st.DataObject, repeat: int, chunk: int
):
    rows = Rows(np.array(groups, dtype=np.int32), chunk=chunk)
    counts = [data.draw(st.integers(0, 2 * repeat * groups.count(number))) for number in range(4)]
    drawn = copies_of(rows, counts, repeat=repeat)
    assert drawn.tolist() == sorted_copies(rows, counts, repeat=repeat).tolist()
    assert int(drawn.sum()) == sum(counts)


@given(st.integers(1, 5), st.integers(0, 30_000))
def test_a_draw_by_tokens_ends_before_the_first_row_that_would_be_too_many(seed: int, tokens: int):
    weight = np.random.default_rng(seed).integers(1, 200, 300)
    rows = Rows(np.zeros(300), weight)
    tokens = min(tokens, int(weight.sum()))
    drawn = copies_of(rows, [tokens], seed=seed)
    assert drawn.tolist() == sorted_copies(rows, [tokens], seed=seed).tolist()
    assert tokens - 200 < int((drawn * weight).sum()) <= tokens


def test_a_large_pool_is_read_twice_and_drawn_exactly():
    rows = Rows(np.arange(200_000) % 3, chunk=50_000)
    drawn = copies_of(rows, [1, 20_000, 66_665])
    assert [int(drawn[group::3].sum()) for group in range(3)] == [1, 20_000, 66_665]
    assert rows.reads == 2


def test_a_band_that_proves_too_narrow_is_widened(monkeypatch):
    monkeypatch.setattr("orca_recipes.run.mixtures.draw._SIGMAS", 0.0)
    monkeypatch.setattr("orca_recipes.run.mixtures.draw._SPARE", 0.001)
    rows = Rows(np.arange(3000) % 2)
    assert copies_of(rows, [700, 2]).tolist() == sorted_copies(rows, [700, 2]).tolist()
    assert rows.reads > 2


def test_more_of_a_pool_is_the_same_rows_and_some_more():
    rows = Rows(np.zeros(5000))
    few, many = copies_of(rows, [1000]), copies_of(rows, [1700])
    assert (many[few > 0] == 1).all()
