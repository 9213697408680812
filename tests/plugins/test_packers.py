"""Packers place every example once, whole, in a row that it fits, and arrival decides nothing."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orca_plugins.packers.best_fit import BestFit
from orca_plugins.packers.one_per_row import OnePerRow
from orca_recipes.contract.draws import splitmix64
from orca_recipes.contract.kinds import Packing
from orca_recipes.errors import OverlongExample

ROW = 64
PACKERS = (BestFit(), OnePerRow())


def pack(lengths: list[int], keys: list[int] | None = None, packer=PACKERS[0], row_tokens: int = ROW) -> Packing:
    if keys is None:
        keys = splitmix64(np.arange(len(lengths), dtype=np.uint64)).tolist()
    return packer.pack(
        lengths=np.array(lengths, dtype=np.int32), keys=np.array(keys, dtype=np.uint64), row_tokens=row_tokens
    )


def rows_of(packing: Packing) -> list[list[int]]:
    bounds = zip(packing.row_starts[:-1], packing.row_starts[1:], strict=True)
    return [packing.order[start:stop].tolist() for start, stop in bounds]


def first_fit_decreasing(lengths: list[int], row_tokens: int) -> int:
    """How many rows the plain method takes: longest first, each in the first row with room."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        place = next((at for at, room in enumerate(rooms) if room >= length), None)
        if place is None:
            rooms.append(row_tokens - length)
        else:
            rooms[place] -= length
    return len(rooms)


def best_fit_decreasing(lengths: list[int], row_tokens: int) -> int:
    """How many rows best fit takes, one example at a time."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [(room, at) for at, room in enumerate(rooms) if room >= length]
        if fitting:
            rooms[min(fitting)[1]] -= length
        else:
            rooms.append(row_tokens - length)
    return len(rooms)


lengths_of_examples = st.lists(st.integers(1, ROW), max_size=60)


@pytest.mark.parametrize("packer", PACKERS, ids=lambda packer: packer.kind)
@given(lengths=lengths_of_examples)
def test_no_example_is_cut_lost_or_doubled(packer, lengths):
    packing = pack(lengths, packer=packer)
    assert sorted(packing.order.tolist()) == list(range(len(lengths)))
    assert packing.row_starts[0] == 0
    assert packing.row_starts[-1] == len(lengths)
    assert all(row and sum(lengths[at] for at in row) <= ROW for row in rows_of(packing))
    assert packing.order.dtype == packing.row_starts.dtype == np.int64


@pytest.mark.parametrize("packer", PACKERS, ids=lambda packer: packer.kind)
@given(data=st.data())
def test_order_of_arrival_decides_nothing(packer, data):
    # Few keys and lengths, so that ties of both are common.
    examples = data.draw(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 9)), max_size=40))
    shuffled = data.draw(st.permutations(examples))

    def packed(examples: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
        lengths, keys = [length for length, _ in examples], [key for _, key in examples]
        return [[examples[at] for at in row] for row in rows_of(pack(lengths, keys, packer, row_tokens=7))]

    assert packed(examples) == packed(shuffled)


@settings(max_examples=200)
@given(lengths_of_examples)
def test_best_fit_takes_no_more_rows_than_best_fit_one_by_one_takes(lengths):
    assert len(rows_of(pack(lengths))) <= best_fit_decreasing(lengths, ROW)


@pytest.mark.parametrize(("examples", "row_tokens"), [(1500, 2048), (12_000, 2048), (12_000, 16_384)])
def test_tasks_with_lengths_of_their_own_are_mixed_in_rows(examples, row_tokens):
    """Where a task's examples are all about as long, best fit by itself puts them together."""
    tasks = splitmix64(np.arange(examples, dtype=np.uint64)) % np.uint64(20)
    lengths = 40 + 30 * tasks.astype(np.int64) + np.arange(examples) % 7
    rows = rows_of(pack(lengths.tolist(), row_tokens=row_tokens))
    same, pairs = 0, 0
    for row in rows:
        same += int((np.diff(tasks[row].astype(int)) == 0).sum())
        pairs += len(row) - 1
    assert same / pairs < 1.15 / 20
    squares = np.array([(lengths[row] ** 2).sum() for row in rows])
    assert squares.std() / squares.mean() < 0.35
    assert len(rows) <= best_fit_decreasing(lengths.tolist(), row_tokens) * 1.0005


def test_lengths_that_fill_rows_only_with_their_like_are_packed_with_them():
    """Two halves or three thirds fill a row; one of each leaves a sixth of it empty."""
    rows = rows_of(pack([ROW // 2, ROW // 3] * 60))
    assert len(rows) == 30 + 20


@pytest.mark.parametrize("kind", ["lognormal", "uniform", "short", "two sizes"])
def test_best_fit_is_as_full_as_first_fit_decreasing(kind):
    chance = np.random.default_rng(11)
    drawn = {
        "lognormal": chance.lognormal(5.3, 0.9, 6000),
        "uniform": chance.integers(1, 2049, 3000),
        "short": chance.integers(1, 60, 6000),
        "two sizes": chance.choice([1100, 700], 3000),
    }[kind]
    lengths = np.clip(drawn, 1, 2048).astype(int).tolist()
    rows = len(rows_of(pack(lengths, row_tokens=2048)))
    assert rows <= first_fit_decreasing(lengths, 2048) * 1.001


def test_examples_that_fill_rows_exactly_leave_no_room():
    assert len(rows_of(pack([ROW // 2, ROW // 4] * 100))) == 75


def test_rows_and_examples_stand_in_keyed_order_and_not_by_length():
    chance = np.random.default_rng(5)
    lengths = chance.integers(1, ROW + 1, 3000).tolist()
    keys = splitmix64(np.arange(3000, dtype=np.uint64))
    rows = rows_of(pack(lengths, keys.tolist()))
    smallest = np.array([keys[row].min() for row in rows])
    assert all((np.diff(keys[row].astype(object)) > 0).all() for row in rows)
    assert (np.diff(splitmix64(smallest).astype(object)) > 0).all()
    longest = np.array([max(lengths[at] for at in row) for row in rows])
    assert abs(np.corrcoef(longest, np.arange(len(rows)))[0, 1]) < 0.1


@pytest.mark.parametrize("row_tokens", [7, 65_535, 65_536, 200_000])
@given(data=st.data())
def test_rows_follow_the_smallest_key_they_hold_in_rows_of_any_length(row_tokens, data):
    most = st.one_of(st.integers(1, min(row_tokens, 5)), st.integers(1, row_tokens))
    keys = st.one_of(st.integers(0, 3), st.integers(0, 2**64 - 1))
    lengths, keys = zip(*data.draw(st.lists(st.tuples(most, keys), min_size=1, max_size=40)), strict=True)
    rows = rows_of(pack(list(lengths), list(keys), row_tokens=row_tokens))
    assert all(sum(lengths[at] for at in row) <= row_tokens for row in rows)
    assert all([keys[at] for at in row] == sorted(keys[at] for at in row) for row in rows)
    firsts = splitmix64(np.array([keys[row[0]] for row in rows], dtype=np.uint64)).tolist()
    assert firsts == sorted(firsts)


def test_one_per_row_gives_each_example_its_row_in_keyed_order():
    assert rows_of(pack([5, 6, 7], [30, 10, 20], OnePerRow())) == [[1], [2], [0]]


@pytest.mark.parametrize("packer", PACKERS, ids=lambda packer: packer.kind)
def test_an_overlong_example_is_named(packer):
    with pytest.raises(OverlongExample, match="example 1 has 65 tokens, and a row holds 64"):
        pack([64, 65, 66], packer=packer)


@pytest.mark.parametrize("packer", PACKERS, ids=lambda packer: packer.kind)
def test_nothing_packs_into_no_rows(packer):
    packing = pack([], packer=packer)
    assert packing.order.tolist() == []
    assert packing.row_starts.tolist() == [0]


@pytest.mark.parametrize("packer", PACKERS, ids=lambda packer: packer.kind)
def test_a_packer_travels_to_other_processes(packer):
    assert pickle.loads(pickle.dumps(packer)) == packer


def test_many_lengths_of_long_rows_are_packed_full():
    chance = np.random.default_rng(2)
    lengths = np.clip(chance.lognormal(8, 1.2, 40_000), 1, 131_072).astype(int)
    packing = pack(lengths.tolist(), row_tokens=131_072)
    used = np.add.reduceat(lengths[packing.order], packing.row_starts[:-1])
    assert used.max() <= 131_072
    assert lengths.sum() / (len(used) * 131_072) > 0.999
