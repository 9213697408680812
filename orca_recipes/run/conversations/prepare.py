"""Verb `prepare`: a teacher that is told its answers by collections lays them out, once, for all who ask it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from orca_recipes.contract.frames import completed, examples_schema
from orca_recipes.contract.kinds import Teacher
from orca_recipes.run.examples.read import batches_of
from orca_recipes.run.work.bench import Bench
from orca_recipes.store.arrow_files import IDS, read_frame
from orca_recipes.store.sealed import promise, write_sealed
from orca_recipes.store.stage_folder import StageFolder

if TYPE_CHECKING:
    import polars as pl

PREPARED = "prepared"


def make(bench: Bench, folder: StageFolder, subject: str) -> None:
    """Make stage `prepare` of a teacher."""
    bench.progress.begin(f"prepare {subject}", total=1, unit="teachers")
    chosen = bench.recipe.teachers[subject]
    counts = prepare_teacher(chosen, folder, [bench.folder(f"read {name}") for name in chosen.collections()])
    bench.progress.end(", ".join(f"{number:,} {what}" for what, number in counts.items() if number))


def prepare_teacher(teacher: Teacher, folder: StageFolder, reads: Sequence[StageFolder]) -> dict[str, int]:
    """Fill a stage with what the teacher makes of its collections; return its counts.

    Args:
        reads: the finished `read` stages of its collections.
    """
    # Aside, so that nothing of a run that broke off is taken for made.
    aside = folder.path / ".making"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    counts = dict(teacher.prepare(examples=_examples(reads), folder=aside))
    files = []
    for made in sorted(aside.iterdir()):
        files.append({"name": made.name, "bytes": made.stat().st_size, "digest": promise(made)})
        made.replace(folder.path / made.name)
    aside.rmdir()
    write_sealed(folder.path / f"{PREPARED}.json", {"files": files, "report": {}})
    folder.finish([PREPARED], {"counts": counts})
    return counts


def _examples(reads: Sequence[StageFolder]) -> Iterator[pl.DataFrame]:
    """Yield the examples of the collections, batch by batch."""
    for read in reads:
        ids = read_frame(read.file(f"{IDS}.arrow"))
        for batch in batches_of(read):
            here = ids.slice(batch.start, batch.stop - batch.start)
            frame = read_frame(batch.path).with_columns(here["id_hi"], here["id_lo"])
            yield completed(frame.filter(here["keep"]), examples_schema())
