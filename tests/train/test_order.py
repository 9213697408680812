"""The order of rows: every row once an epoch, by a key alone."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.train.data.batches import Share
from orca_recipes.train.data.order import KeyedOrder, PhaseOrder


@given(size=st.integers(1, 600), key=st.text(max_size=8))
def test_an_order_holds_every_row_once(size: int, key: str):
    order = KeyedOrder(size, key)
    assert sorted(order[position] for position in range(size)) == list(range(size))


def test_an_order_is_decided_by_its_key_and_shuffles():
    first, again, other = (KeyedOrder(1000, key) for key in ("a", "a", "b"))
    rows = [first[position] for position in range(1000)]
    assert rows == [again[position] for position in range(1000)]
    assert sum(row == other[position] for position, row in enumerate(rows)) < 20
    assert sum(row == position for position, row in enumerate(rows)) < 20


def test_an_order_never_changes_between_versions():
    assert [KeyedOrder(10, "key")[position] for position in range(10)] == [8, 0, 9, 6, 2, 4, 3, 5, 1, 7]


def test_a_place_in_ten_billion_rows_needs_no_table():
    assert 0 <= KeyedOrder(10_000_000_000, "key")[9_999_999_999] < 10_000_000_000


@given(
    held=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    passes=st.lists(st.integers(1, 45), min_size=4, max_size=4),
    seed=st.integers(0, 5),
)
def test_a_phase_takes_each_row_once_an_epoch_and_ends_with_the_rows_that_it_names(
    held: list[int], passes: list[int], seed: int
):
    names = [f"dataset-{number}" for number in range(len(held))]
    sizes, taken = dict(zip(names, held, strict=True)), dict(zip(names, passes, strict=False))
    order = PhaseOrder(seed=seed, phase=1, held=sizes, taken=taken)
    places = [order[position] for position in range(order.rows)]
    assert Counter(place.dataset for place in places) == taken
    for name in names:
        epochs = [place.epoch for place in places if place.dataset == name]
        assert epochs == sorted(epochs)
        for epoch in set(epochs):
            rows = [place.row for place in places if (place.dataset, place.epoch) == (name, epoch)]
            assert len(set(rows)) == len(rows) == min(sizes[name], taken[name] - epoch * sizes[name])


def test_datasets_of_one_phase_are_spread_evenly_over_it():
    order = PhaseOrder(seed=1, phase=1, held={"a": 900, "b": 100}, taken={"a": 900, "b": 100})
    for start in range(0, 1000, 100):
        assert sum(order[position].dataset == "b" for position in range(start, start + 100)) == 10


def test_epochs_phases_and_seeds_have_orders_of_their_own():
    def rows(seed: int, phase: int, start: int) -> list[int]:
        order = PhaseOrder(seed=seed, phase=phase, held={"a": 50}, taken={"a": 100})
        return [order[position].row for position in range(start, start + 50)]

    orders = [rows(1, 1, 0), rows(1, 1, 50), rows(1, 2, 0), rows(2, 1, 0)]
    assert len({tuple(order) for order in orders}) == 4


@given(start=st.integers(0, 50), count=st.integers(1, 40), ranks=st.integers(1, 5), micro_rows=st.integers(1, 4))
def test_ranks_share_the_rows_of_a_step_and_run_as_many_micro_batches(
    start: int, count: int, ranks: int, micro_rows: int
):
    dealing = [Share(rank, ranks, micro_rows) for rank in range(ranks)]
    [micro_batches] = {share.count(start, start + count) for share in dealing}
    shares = [[share.positions(start, start + count, n) for n in range(micro_batches)] for share in dealing]
    assert any(positions for share in shares for positions in share[-1:])
    assert all(len(positions) <= micro_rows for share in shares for positions in share)
    dealt = [position for share in shares for positions in share for position in positions]
    assert sorted(dealt) == list(range(start, start + count))
