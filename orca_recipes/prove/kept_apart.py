"""That mixtures are kept apart, proven from a build's records alone.

Records of datasets that no question may join tell each question's digest, so a question in both is found whatever
became of ids, templates and system messages. Repeats of an example share the high half of its id, so an example that
stands more often than its take lets it is found too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.errors import DamagedShard
from orca_recipes.plan.mixing import are_apart, line_of
from orca_recipes.prove.asked_counts import mixture_of, mixtures_of
from orca_recipes.recipe.mixtures import Mixture
from orca_recipes.shards.checks.repeats import repeated_values
from orca_recipes.shards.checks.verify_report import Finding
from orca_recipes.shards.layout import records_path
from orca_recipes.shards.manifest import Manifest
from orca_recipes.shards.records import Records, read_records
from orca_recipes.shards.text_columns import WIDTH
from orca_recipes.store.arrow_files import column_of, indices

if TYPE_CHECKING:
    import pyarrow as pa


Halves = Mapping[str, np.ndarray]
"""Prefix of a shard to the high halves of its examples' ids, uint64 [examples], in any order."""


def check_apart(directory: Path, promised: Manifest, halves: Halves) -> Iterator[Finding]:
    """Check that no question stands in two datasets kept apart, and no example more often than its mixture says.

    Args:
        halves: of shards that were read already; others are read. Files that cannot be read are told by others.
    """
    mixtures = mixtures_of(promised)
    if isinstance(mixtures, Finding):
        return
    chosen = {dataset: mixture_of(promised, dataset, mixtures) for dataset in promised.datasets}
    for dataset in promised.datasets:
        yield from _check_repeats(directory, promised, dataset, _most(mixtures, chosen[dataset]), halves)
    for one, other in combinations(promised.datasets, 2):
        if are_apart(mixtures, chosen[one], chosen[other]):
            yield from _check_pair(directory, promised, one, other)


def pairs_apart(promised: Manifest) -> int:
    """Count the pairs of datasets that are kept apart."""
    mixtures = mixtures_of(promised)
    if isinstance(mixtures, Finding):
        return 0
    chosen = [mixture_of(promised, dataset, mixtures) for dataset in promised.datasets]
    return sum(are_apart(mixtures, one, other) for one, other in combinations(chosen, 2))


def _most(mixtures: Mapping[str, Mixture], name: str) -> dict[str, int]:
    """Return the most times an example of each collection may stand in a mixture; once, where nothing is said."""
    outermost = mixtures[line_of(mixtures, name)[-1]]
    return {collection: take.most for collection, take in outermost.take.items()}


def _check_repeats(
    directory: Path, promised: Manifest, dataset: str, most: Mapping[str, int], halves: Halves
) -> Iterator[Finding]:
    """Report examples that stand too often, by the high half of their ids; the conversations a rule made of one are
    told apart, and so are their turns."""
    import pyarrow as pa
    import pyarrow.compute as pc

    tables = list(_of_repeated(directory, promised, dataset, halves))
    if not tables:
        return
    table = pa.concat_tables(tables)
    counted = table.group_by(table.column_names).aggregate([([], "count_all")])
    names = pc.unique(counted["collection"])
    limits = pa.array([most.get(name, 1) for name in names.to_pylist()], pa.int64())
    allowed = limits.take(pc.index_in(counted["collection"], value_set=names))
    counted = counted.append_column("allowed", allowed).filter(pc.greater(counted["count_all"], allowed))
    for line in counted.sort_by("half").to_pylist():
        words = (
            f"stands {line['count_all']} times in the dataset, and its mixture lets it stand {line['allowed']} times"
        )
        example = f"{line['half']:016x}"
        yield Finding(dataset, f"an example of collection {line['collection']} {words}", example=example)


def _of_repeated(directory: Path, promised: Manifest, dataset: str, halves: Halves) -> Iterator[pa.Table]:
    """Yield the records of examples whose half stands more than once in a dataset, searched among numbers first: as a
    rule there are none, and grouping texts costs ten times as much."""
    prefixes = [shard.prefix for shard in promised.datasets[dataset].shards]
    unread = [prefix for prefix in prefixes if prefix not in halves]
    known = [halves[prefix] for prefix in prefixes if prefix in halves]
    found = [records.ids[:, 0] for records in _records(directory, unread)]
    repeated = repeated_values([*known, *found])
    for records in _records(directory, prefixes) if len(repeated) else ():
        places = np.flatnonzero(np.isin(records.ids[:, 0], repeated))
        table = records.table.select(["collection", "strategy", "system_message"]).take(indices(places))
        table = table.append_column("turn", column_of(records.parts()[places]))
        yield table.add_column(0, "half", column_of(records.ids[places, 0]))


def _check_pair(directory: Path, promised: Manifest, one: str, other: str) -> Iterator[Finding]:
    import pyarrow as pa
    import pyarrow.compute as pc

    digests = []
    for dataset in (one, other):
        prefixes = [shard.prefix for shard in promised.datasets[dataset].shards]
        tables = [records.table.select(["question_digest"]) for records in _records(directory, prefixes)]
        column = pa.chunked_array([chunk for table in tables for chunk in table[0].chunks], pa.binary(WIDTH))
        if column.null_count:
            words = f"{column.null_count} records of dataset {dataset} tell no question"
            yield Finding(
                dataset, f"{words}, so nothing proves that it is apart from {one if dataset == other else other}"
            )
        digests.append(pc.unique(column.drop_null()))
    both = digests[0].filter(pc.is_in(digests[0], value_set=digests[1]))
    if len(both):
        example = both[0].as_py().hex()
        words = f"{len(both)} questions of dataset {one} stand in dataset {other} too, and the mixtures are kept apart"
        yield Finding(one, f"{words} (the first has digest {example})")


def _records(directory: Path, prefixes: Iterable[str]) -> Iterator[Records]:
    """Yield the records of each shard, passing over those that cannot be read."""
    for prefix in prefixes:
        try:
            records, faults = read_records(records_path(directory / prefix))
        except DamagedShard:
            continue
        if records is not None and not faults:
            yield records
