"""Classes of change of examples between two builds: each example is in exactly one.

Examples are matched by dataset, id and turn. Of a matched pair the first thing that differs decides:

- reanswered: the trained text is another.
- reasked: the trained text is the same, what stands around it is not (question, system message, template, tokenizer).
- remasked: the tokens are the same, other ones are trained or roles differ.
- provenance: tokens and mask are the same, the record says otherwise where they come from or how they were asked for.
- moved: all of that is the same, at another place of the build, or in another dataset.
- same: nothing differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from orca_recipes.diff.example_columns import ExampleColumns

CLASSES = ("same", "added", "dropped", "reanswered", "reasked", "remasked", "provenance", "moved")
SHOWN = 3
"""Examples of each class that are looked at: the first by id, which is as good as drawn."""


@dataclass(frozen=True)
class Spot:
    """The position of an example: dataset, number of its shard there, number in the shard."""

    dataset: str
    shard: int
    example: int


@dataclass(frozen=True)
class Pair:
    """One example before and after; None where it is not there."""

    before: Spot | None
    after: Spot | None


@dataclass
class RowChanges:
    """The number of examples in each class, and the first few of each."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CLASSES, 0))
    shown: dict[str, list[Pair]] = field(default_factory=lambda: {name: [] for name in CLASSES})

    def add(self, name: str, number: int, pairs: Iterator[Pair]) -> None:
        """Count examples of a class; look at pairs while there is room."""
        self.counts[name] += number
        room = min(SHOWN - len(self.shown[name]), number)
        self.shown[name] += [pair for pair, _ in zip(pairs, range(room), strict=False)]


@dataclass(frozen=True)
class _Unmatched:
    """Examples of one side missing in the other side's dataset of that name: int64 [n] into its columns."""

    dataset: str
    columns: ExampleColumns
    places: np.ndarray

    def spot(self, number: int) -> Spot:
        return _spot(self.dataset, self.columns, self.places[number])


class Matcher:
    """Matches dataset by dataset, then what is left across datasets."""

    def __init__(self) -> None:
        self._changes = RowChanges()
        self._left: tuple[list[_Unmatched], list[_Unmatched]] = ([], [])

    def match(self, dataset: str, before: ExampleColumns, after: ExampleColumns) -> None:
        """Class the examples that both sides have in a dataset; keep the others for `changes`."""
        old, new = _matched(_names_of(before), _names_of(after))
        for name, chosen in _classes(before, after, old, new):
            pairs = (
                Pair(_spot(dataset, before, first), _spot(dataset, after, last))
                for first, last in zip(old[chosen], new[chosen], strict=True)
            )
            self._changes.add(name, int(np.count_nonzero(chosen)), pairs)
        for left, columns, matched in zip(self._left, (before, after), (old, new), strict=True):
            alone = np.ones(len(columns), dtype=np.bool_)
            alone[matched] = False
            left.append(_Unmatched(dataset, columns, np.flatnonzero(alone)))

    def changes(self) -> RowChanges:
        """Class what is left: moved to another dataset, or dropped and added."""
        before, after = self._left
        old, new = _matched(_contents_of(before), _contents_of(after)) if len(before) > 1 else (_NONE, _NONE)
        first, last = _Flat(before), _Flat(after)
        moved = (Pair(first.spot(at), last.spot(to)) for at, to in zip(old, new, strict=True))
        self._changes.add("moved", len(old), moved)
        dropped, added = first.others(old), last.others(new)
        self._changes.add("dropped", len(dropped), (Pair(first.spot(at), None) for at in dropped))
        self._changes.add("added", len(added), (Pair(None, last.spot(at)) for at in added))
        return self._changes


_NONE = np.zeros(0, dtype=np.int64)


class _Flat:
    """Unmatched examples of all datasets, counted through."""

    def __init__(self, parts: list[_Unmatched]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part.places) for part in parts)])

    def spot(self, number: int) -> Spot:
        part = int(np.searchsorted(self._starts, number, side="right")) - 1
        return self._parts[part].spot(number - int(self._starts[part]))

    def others(self, matched: np.ndarray) -> np.ndarray:
        alone = np.ones(int(self._starts[-1]), dtype=np.bool_)
        alone[matched] = False
        return np.flatnonzero(alone)


def _classes(
    before: ExampleColumns, after: ExampleColumns, old: np.ndarray, new: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each class of matched pairs with its mask, bool [pairs]."""
    left = np.ones(len(old), dtype=np.bool_)
    other_ids = (before.ids[old] != after.ids[new]).any(axis=1)
    tests: Mapping[str, np.ndarray] = {
        "reanswered": other_ids & (before.text[old] != after.text[new]).any(axis=1),
        "reasked": other_ids,
        "remasked": before.mask[old] != after.mask[new],
        "provenance": before.about[old] != after.about[new],
        "moved": _stand_apart(before, after, old, new),
    }
    for name, differs in tests.items():
        yield name, left & differs
        left &= ~differs
    yield "same", left


def _stand_apart(before: ExampleColumns, after: ExampleColumns, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    apart = before.shard[old] != after.shard[new]
    apart |= before.row[old] != after.row[new]
    return np.asarray(apart | (before.place[old] != after.place[new]))


def _matched(before: list[np.ndarray], after: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Match pairs whose columns are all equal, each example in one pair at most: int64 [pairs] into either side."""
    count = len(before[0])
    columns = [np.concatenate(pair) for pair in zip(before, after, strict=True)]
    order = np.lexsort(columns)
    pairs = [(_NONE, _NONE)]
    while len(order):
        equal = np.ones(len(order) - 1, dtype=np.bool_)
        for column in columns:
            ordered = column[order]
            equal &= ordered[1:] == ordered[:-1]
        # The sort is stable: of equal ones, those from before stand first, so a pair is where both sides meet. Where
        # one stands there several times, the next pair meets once this one is gone.
        first = np.flatnonzero(equal & (order[:-1] < count) & (order[1:] >= count))
        if not len(first):
            break
        pairs.append((order[first], order[first + 1] - count))
        order = np.delete(order, np.concatenate([first, first + 1]))
    old, new = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return old, new


def _names_of(columns: ExampleColumns) -> list[np.ndarray]:
    # np.lexsort sorts by its last column first, so that matches come in order of id.
    return [columns.low, columns.high]


def _contents_of(parts: list[_Unmatched]) -> list[np.ndarray]:
    """Name and content of what is left, as columns to be matched."""
    chosen = [(part.columns, part.places) for part in parts]
    return [
        np.concatenate([columns.mask[places] for columns, places in chosen]),
        np.concatenate([columns.ids[places, 1] for columns, places in chosen]),
        np.concatenate([columns.ids[places, 0] for columns, places in chosen]),
        np.concatenate([columns.low[places] for columns, places in chosen]),
        np.concatenate([columns.high[places] for columns, places in chosen]),
    ]


def _spot(dataset: str, columns: ExampleColumns, place: int) -> Spot:
    return Spot(dataset, int(columns.shard[place]), int(columns.example[place]))
