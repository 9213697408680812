"""Collection, task and strategy of each example in the validation rows, from the build's records.

They are read at the start, of the rows that are looked at alone, so that memory grows with these and not with the
dataset. Rows may name as many tasks as they like: the most frequent are told by name, the rest together.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.shards.files import damage
from orca_recipes.shards.layout import records_path
from orca_recipes.train.data.order import PhaseOrder, RowPlace
from orca_recipes.train.data.rows import Rows

if TYPE_CHECKING:
    import pyarrow as pa

    from orca_recipes.shards.training import Training

SORTS = ("collection", "task", "strategy")
"""By what losses are told: columns of the records."""

OTHERS = "(others)"
"""All groups beyond those that are told by name."""

_NAMED = 100
"""How many groups of a sort are told by name."""

# Records are read in batches, so that memory does not grow with the dataset.
_BATCH_EXAMPLES = 1 << 16


@dataclass(frozen=True)
class Groups:
    """names: of the groups of each sort. codes: for each row int32 [examples, sorts], into names."""

    names: Mapping[str, Sequence[str]]
    codes: Mapping[tuple[str, int], np.ndarray]

    def of(self, place: RowPlace) -> np.ndarray:
        return self.codes[place.dataset, place.row]


def validation_order(rows: Rows, training: Training) -> PhaseOrder:
    """Choose the validation rows, the same every time; a smaller number of them is the beginning of a larger one."""
    assert training.validation is not None
    held = rows.count(training.validation)
    return PhaseOrder(
        seed=training.seed,
        phase=0,
        held={training.validation: held},
        taken={training.validation: min(held, training.validation_rows)},
    )


def read_groups(rows: Rows, order: PhaseOrder) -> Groups:
    """Read the groups of all examples in the rows of an order.

    Raises: DamagedShard where their records cannot be read.
    """
    coding: list[dict[str, int]] = [{} for _ in SORTS]
    codes: dict[tuple[str, int], list[list[int]]] = defaultdict(list)
    for dataset in order.taken:
        for row, names in _examples(rows, dataset, order):
            coded = zip(coding, names, strict=True)
            codes[dataset, row].append([known.setdefault(name, len(known)) for known, name in coded])
    wide = {key: np.array(found, dtype=np.int32) for key, found in codes.items()}
    named, new_codes = zip(*(_told(known, wide, at) for at, known in enumerate(coding)), strict=True)
    return Groups(
        names=dict(zip(SORTS, named, strict=True)),
        codes={
            key: np.stack([new[found[:, at]] for at, new in enumerate(new_codes)], axis=1)
            for key, found in wide.items()
        },
    )


def _told(
    known: Mapping[str, int], codes: Mapping[tuple[str, int], np.ndarray], at: int
) -> tuple[list[str], np.ndarray]:
    """Return names in order, and for each code of reading its place among them."""
    counts = Counter[int]()
    for found in codes.values():
        counts.update(found[:, at].tolist())
    frequent = sorted(known, key=lambda name: (-counts[known[name]], name))[:_NAMED]
    names = sorted(frequent)
    place = {name: number for number, name in enumerate(names)}
    if len(known) > len(names):
        names.append(OTHERS)
    return names, np.array([place.get(name, len(place)) for name in known], dtype=np.int32)


def _examples(rows: Rows, dataset: str, order: PhaseOrder) -> Iterator[tuple[int, Sequence[str]]]:
    """Yield row of the dataset and names of its groups, for every example of the rows in the order."""
    wanted: dict[str, dict[int, int]] = defaultdict(dict)
    for position in range(order.rows):
        place = order[position]
        prefix, row = rows.locate(place)
        wanted[prefix][row] = place.row
    for prefix, found in wanted.items():
        chosen = np.fromiter(found, dtype=np.int64)
        for table in _batches(records_path(rows.directory / prefix)):
            here = np.flatnonzero(np.isin(table["row"].to_numpy(), chosen))
            if len(here):
                few = table.take(here)
                sorts = zip(*(few[sort].to_pylist() for sort in SORTS), strict=True)
                yield from zip((found[row] for row in few["row"].to_pylist()), sorts, strict=True)


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(_BATCH_EXAMPLES, columns=["row", *SORTS], use_threads=False)
    except (pa.ArrowException, OSError, KeyError) as error:
        raise damage(path, f"it cannot be read ({error})") from error
