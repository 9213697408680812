"""The curriculum of a build against the datasets that its manifest promises."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from orca_recipes.errors import DamagedShard
from orca_recipes.shards.checks.verify_report import Finding, finding_of
from orca_recipes.shards.curriculum import (
    NAME,
    AskedPhase,
    CurriculumPhase,
    DatasetSize,
    compiled_curriculum,
    read_curriculum,
)
from orca_recipes.shards.manifest import Manifest


def check_curriculum(directory: Path, promised: Manifest) -> Iterator[Finding]:
    """Check the datasets and row counts of every phase against the build."""
    if not (directory / NAME).is_file():
        return
    try:
        phases = read_curriculum(directory).phases
    except DamagedShard as error:
        yield finding_of(error, directory, NAME)
        return
    unknown = sorted({name for phase in phases for name in phase.datasets} - promised.datasets.keys())
    for name in unknown:
        yield Finding(NAME, f'it names dataset "{name}", which the build does not hold')
    if not unknown:
        yield from _check_rows(phases, promised)


def _check_rows(phases: Sequence[CurriculumPhase], promised: Manifest) -> Iterator[Finding]:
    """Check that the rows of each phase follow from the sizes of its datasets."""
    sizes = {
        name: DatasetSize(counts.rows, counts.tokens, counts.trained_tokens)
        for name, counts in promised.datasets.items()
    }
    asked = [AskedPhase(phase.datasets, phase.epochs, phase.tokens, phase.training) for phase in phases]
    for number, (told, right) in enumerate(zip(phases, compiled_curriculum(asked, sizes).phases, strict=True), start=1):
        if told != right:
            said, due = (", ".join(f"{name} {rows}" for name, rows in each.rows.items()) for each in (told, right))
            yield Finding(
                NAME,
                f"phase {number} takes the rows {said} from row {told.first_row} on ({told.seen_tokens} tokens, "
                f"{told.seen_trained_tokens} trained), where its datasets give {due} from row {right.first_row} on "
                f"({right.seen_tokens} tokens, {right.seen_trained_tokens} trained)",
            )
