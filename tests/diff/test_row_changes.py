"""Every example of two builds is in one class, decided by the first thing that differs."""

from dataclasses import fields

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.diff.example_columns import ExampleColumns, mask_hashes
from orca_recipes.diff.row_changes import CLASSES, Matcher
from orca_recipes.shards.segments import Segments

USER, ANSWER, STARTS = 2 << 2, 3 << 2 | 1, 2


def columns(**values: list[int]) -> ExampleColumns:
    """Columns of examples; what is not given is 0."""
    count = max(map(len, values.values()))
    held = {}
    for field in fields(ExampleColumns):
        given_ = np.array(values.get(field.name, [0] * count))
        kind = np.int32 if field.name in {"shard", "example", "row", "place"} else np.uint64
        held[field.name] = (
            np.stack([given_, given_], axis=1).astype(kind) if field.name in {"ids", "text"} else (given_.astype(kind))
        )
    return ExampleColumns(**held)


def counts(before: ExampleColumns, after: ExampleColumns) -> dict[str, int]:
    matcher = Matcher()
    matcher.match("main", before, after)
    return {name: number for name, number in matcher.changes().counts.items() if number}


def test_the_first_thing_that_differs_decides():
    before = columns(high=[1, 2, 3, 4, 5, 6], low=[9, 8, 7, 6, 5, 4])
    after = columns(
        high=[6, 5, 4, 3, 2, 1],
        low=[4, 5, 6, 7, 8, 9],
        ids=[1, 1, 0, 0, 0, 0],
        text=[1, 0, 0, 0, 0, 0],
        mask=[1, 1, 1, 0, 0, 0],
        about=[1, 1, 1, 1, 0, 0],
        place=[1, 1, 1, 1, 1, 0],
    )
    assert counts(before, after) == dict.fromkeys(
        ["reanswered", "reasked", "remasked", "provenance", "moved", "same"], 1
    )


def test_an_id_that_stands_twice_is_matched_once():
    assert counts(columns(high=[1, 1]), columns(high=[1])) == {"same": 1, "dropped": 1}
    assert counts(columns(high=[1]), columns(high=[1, 1])) == {"same": 1, "added": 1}
    assert counts(columns(high=[1, 1, 1]), columns(high=[1, 1])) == {"same": 2, "dropped": 1}


def test_what_is_in_another_dataset_moved_unless_it_changed():
    matcher = Matcher()
    matcher.match("a", columns(high=[1, 2]), columns(high=[], low=[]))
    matcher.match("b", columns(high=[], low=[]), columns(high=[1, 2], text=[0, 0], ids=[0, 1]))
    found = matcher.changes()
    assert (found.counts["moved"], found.counts["dropped"], found.counts["added"]) == (1, 1, 1)
    (pair,) = found.shown["moved"]
    assert (pair.before.dataset, pair.after.dataset) == ("a", "b")


@given(
    before=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), max_size=12),
    after=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), max_size=12),
)
def test_no_example_is_counted_twice_or_not_at_all(before: list, after: list):
    sides = [
        columns(high=[a for a, _ in side], ids=[b for _, b in side], text=[b for _, b in side])
        for side in (before, after)
    ]
    found = counts(*sides)
    both = sum(found.get(name, 0) for name in CLASSES if name not in {"added", "dropped"})
    assert both + found.get("dropped", 0) == len(before)
    assert both + found.get("added", 0) == len(after)
    assert both == sum(min([a for a, _ in before].count(key), [a for a, _ in after].count(key)) for key in range(7))


def hashes(*segments: tuple[int, int]) -> list[int]:
    lengths, modes = zip(*segments, strict=True)
    found = mask_hashes(Segments(np.array(lengths, np.int32), np.array(modes, np.int8), np.array([0, len(segments)])))
    return found.tolist()


def test_a_mask_is_told_by_its_tokens_and_roles_and_not_by_how_they_are_parted():
    whole = hashes((4, USER | STARTS), (3, ANSWER))
    assert whole == hashes((1, USER | STARTS), (3, USER), (1, ANSWER), (2, ANSWER))
    others = [
        hashes((5, USER | STARTS), (2, ANSWER)),
        hashes((4, USER | STARTS), (3, 3 << 2)),
        hashes((4, 1 << 2 | STARTS), (3, ANSWER)),
        hashes((4, USER | STARTS), (2, ANSWER), (1, USER)),
    ]
    assert all(other != whole for other in others)
    # In a row of two examples each is hashed from its own first token.
    assert hashes((9, USER | STARTS), (4, USER | STARTS), (3, ANSWER))[1:] == whole
