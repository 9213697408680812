"""What a trainer should read of a build: its examples and rows, ids and labels, told by the format's own reader."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from orca_recipes.shards.layout import is_trained
from orca_recipes.shards.manifest import read_manifest
from orca_recipes.shards.reader import Shard

Labelled = tuple[tuple[int, ...], tuple[int, ...]]
"""Ids of an example, and its labels: each token's own id where it is trained and not the first, else -100."""


def rows_of(build: Path, dataset: str = "main") -> Iterator[list[Labelled]]:
    """Every row of a dataset in order, as its examples, each read and labelled by itself."""
    for counts in read_manifest(build).datasets[dataset].shards:
        shard = Shard.open(build / counts.prefix)
        for number in range(shard.rows):
            row = shard.row(number)
            trained: list[bool] = []
            for length, carries in zip(row.segments.lengths, is_trained(row.segments.modes), strict=True):
                trained += [bool(carries)] * int(length)
            bounds = row.segments.example_bounds.tolist()
            yield [_labelled(row.tokens[start:stop].tolist(), trained[start:stop]) for start, stop in pairwise(bounds)]


def examples_of(build: Path, dataset: str = "main") -> list[Labelled]:
    """Every example of a dataset, in the order of its rows."""
    return [example for row in rows_of(build, dataset) for example in row]


def labels_in(examples: list[Labelled]) -> int:
    """How many labels examples have in all."""
    return sum(label >= 0 for _, labels in examples for label in labels)


def _labelled(ids: list[int], trained: list[bool]) -> Labelled:
    labels = [token if carries and at else -100 for at, (token, carries) in enumerate(zip(ids, trained, strict=True))]
    return tuple(ids), tuple(labels)
