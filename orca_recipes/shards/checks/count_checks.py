"""The numbers of a manifest: among themselves, and against what the shards and tables hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.errors import DamagedShard
from orca_recipes.shards.checks.invariants import first_few
from orca_recipes.shards.checks.repeats import repeated_values
from orca_recipes.shards.checks.verify_report import Finding, finding_of
from orca_recipes.shards.layout import records_path, token_dtype
from orca_recipes.shards.manifest import NAME, DatasetCounts, Manifest, TaskCounts, data_digest, fill
from orca_recipes.shards.records import COUNTED, rejected_schema, with_columns

if TYPE_CHECKING:
    from orca_recipes.shards.checks.file_checks import TableChecks
    from orca_recipes.shards.checks.shard_checks import ShardCheck

Totals = tuple[int, int, int]
"""Examples, tokens, trained tokens."""


def check_numbers(promised: Manifest) -> Iterator[Finding]:
    """Check the manifest's numbers: settings of the trainer, the data's digest, and conservation in every stage."""
    size, dtype = promised.vocabulary_size, token_dtype(promised.vocabulary_size).name
    if promised.dtype != dtype:
        yield Finding(NAME, f"dtype is {promised.dtype}, where a vocabulary of {size} takes {dtype}")
    if promised.row_tokens % promised.align:
        yield Finding(NAME, f"row_tokens = {promised.row_tokens} is no multiple of align = {promised.align}")
    held = data_digest(promised.files, promised.tables)
    if promised.data_digest != held:
        yield Finding(NAME, f"data_digest is {promised.data_digest}, where its files and tables give {held}")
    ends = {token for terminator in promised.terminators for token in terminator}
    ids = {promised.pad_id, promised.bos_id, promised.unused_bos_id, *ends} - {None}
    for token in sorted(token for token in ids if token is not None and token >= size):
        yield Finding(NAME, f"token {token} is outside the vocabulary of {size}")
    for dataset, counts in promised.datasets.items():
        yield from _check_stages(dataset, counts)


def check_dataset(dataset: str, promised: Manifest, checks: Sequence[ShardCheck]) -> Iterator[Finding]:
    """Check a dataset's counts against all of its shards; only where all could be read."""
    counts = promised.datasets[dataset]
    for prefix in (shard.prefix for shard in counts.shards):
        if Path(prefix).parent.as_posix() != dataset:
            yield Finding(NAME, f"shard {prefix} lies outside the folder of its dataset {dataset}")
    if any(check.rows == 0 for check in checks):
        return
    for name in ("rows", "examples", "tokens", "trained_tokens"):
        held, said = sum(getattr(check, name) for check in checks), getattr(counts, name)
        if held != said:
            yield Finding(
                NAME, f"it counts {said} {name.replace('_', ' ')} in dataset {dataset}, whose shards hold {held}"
            )
    full = fill(tokens=counts.tokens, rows=counts.rows, row_tokens=promised.row_tokens)
    if counts.fill != full:
        yield Finding(NAME, f"it says that dataset {dataset} is {counts.fill} full, and its counts give {full}")
    if all(check.counts is not None for check in checks):
        yield from _check_tasks(dataset, counts, [check.counts for check in checks if check.counts is not None])


def check_twins(checks: Sequence[ShardCheck]) -> Iterator[Finding]:
    """Check that no example, and no turn of a conversation, is in a dataset twice; checks: of its shards."""
    # Low halves hardly ever stand twice, not even those of repeats, and to order pairs costs twenty times as much.
    if not len(repeated_values([check.ids[:, 1] for check in checks])):
        return
    ids, turns, rows = (
        np.concatenate([getattr(check, name) for check in checks]) for name in ("ids", "turns", "example_rows")
    )
    shards = np.repeat(np.arange(len(checks)), [len(check.ids) for check in checks])
    order = np.lexsort((turns, ids[:, 1], ids[:, 0]))
    alike = (ids[order[1:]] == ids[order[:-1]]).all(axis=1)
    again = order[1:][alike & (turns[order[1:]] == turns[order[:-1]])]
    for at, sentence in first_few(again, lambda _: "the example stands in the dataset more than once"):
        file = records_path(Path(checks[shards[at]].prefix)).as_posix()
        yield Finding(file, sentence, int(rows[at]), f"{ids[at, 0]:016x}{ids[at, 1]:016x}")


def check_rejected(directory: Path, path: str, counts: DatasetCounts, tables: TableChecks) -> Iterator[Finding]:
    """Check that every rejected row is listed: by reason, as many lines as the dataset's stages count together.

    Rows that a mixture left out are counted, never listed: they may outnumber the dataset itself.
    """
    try:
        stored = tables.read(path)
        if stored is None:
            return
        table = with_columns(directory / path, stored, rejected_schema())
    except DamagedShard as error:
        yield finding_of(error, directory, path)
        return
    listed = Counter({found["values"]: found["counts"] for found in table["reason"].value_counts().to_pylist()})
    counted: Counter[str] = Counter()
    for stage in counts.stages:
        counted.update(stage.rejected)
    for reason in COUNTED:
        del counted[reason]
    for reason in sorted(listed.keys() | counted.keys(), key=str):
        lines, number = listed[reason], counted[reason]
        if lines != number:
            yield Finding(path, f'it lists {lines} rows rejected as "{reason}", where the stages count {number}')


def _check_stages(dataset: str, counts: DatasetCounts) -> Iterator[Finding]:
    for stage in counts.stages:
        came = stage.taken + sum(stage.created.values())
        went = stage.out + sum(stage.rejected.values())
        if came != went:
            words = f"stage {stage.name} of dataset {dataset} lost or made rows"
            yield Finding(NAME, f"{words}: {came} came in or were created, {went} went out or were rejected")


def _check_tasks(
    dataset: str, counts: DatasetCounts, held: Sequence[Mapping[tuple[str, str], Totals]]
) -> Iterator[Finding]:
    tasks: Counter[tuple[str, str, int]] = Counter()
    for shard in held:
        for (collection, task), totals in shard.items():
            tasks.update({(collection, task, kind): total for kind, total in enumerate(totals)})
    found = {key[:2]: tuple(tasks[*key[:2], kind] for kind in range(3)) for key in tasks}
    said = {
        (collection, task): _totals(task_counts)
        for collection, of_collection in counts.collections.items()
        for task, task_counts in of_collection.tasks.items()
    }
    for collection, task in sorted(found.keys() | said.keys()):
        yield from _compare(
            f"task {task} of collection {collection} in {dataset}",
            said.get((collection, task)),
            found.get((collection, task)),
        )
    for collection, of_collection in counts.collections.items():
        sums = tuple(sum(column) for column in zip(*map(_totals, of_collection.tasks.values()), strict=True))
        yield from _compare(f"collection {collection} in {dataset}", _totals(of_collection), sums)


def _totals(counts: TaskCounts) -> Totals:
    return counts.examples, counts.tokens, counts.trained_tokens


def _compare(what: str, said: tuple[int, ...] | None, held: tuple[int, ...] | None) -> Iterator[Finding]:
    nothing = (0, 0, 0)
    if (said or nothing) != (held or nothing):
        words = "examples, tokens, trained tokens"
        yield Finding(NAME, f"it counts {said or nothing} ({words}) for {what}, and the records {held or nothing}")
