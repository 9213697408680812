"""Making the report of a build: one file that opens by a double click and asks nothing of the network.

It is told from the build directory alone, so equal builds give equal bytes. A build with faults gets no report: a page
that looks trustworthy must not stand on files that are not.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from orca_recipes.errors import ExportError, UserError
from orca_recipes.explain.two_views import view_teller
from orca_recipes.progress import Progress
from orca_recipes.prove.prove import prove
from orca_recipes.recipe.choice import Kinds
from orca_recipes.report.against import against
from orca_recipes.report.facts import Facts, Proof
from orca_recipes.report.lost_rows import lost_rows
from orca_recipes.report.page import MARK, page
from orca_recipes.report.row_samples import samples
from orca_recipes.report.share_tables import MOST_LINES
from orca_recipes.report.tallies import DatasetTallies, dataset_tallies
from orca_recipes.shards.curriculum import NAME as CURRICULUM
from orca_recipes.shards.curriculum import read_curriculum
from orca_recipes.shards.files import damage, write_whole
from orca_recipes.shards.manifest import Manifest, read_manifest
from orca_recipes.shards.proven_files import prove_files
from orca_recipes.shards.publishing import file_above

PROVEN_TOKENS = 20_000_000
"""Up to so many tokens a build is verified whole while its report is made: that takes seconds."""


@dataclass(frozen=True)
class Written:
    """A report that was written."""

    path: Path
    bytes: int
    seconds: float

    def as_json(self) -> Mapping[str, object]:
        return {"path": str(self.path), "bytes": self.bytes, "seconds": round(self.seconds, 3)}


def write_report(
    directory: Path,
    out: Path,
    *,
    kinds: Kinds,
    progress: Progress,
    whole: bool = False,
    other: Path | None = None,
) -> Written:
    """Write the report of a build.

    Args:
        whole: verify a build of any size whole. other: a build that it is held against.
    Raises: BuildError where there is no build; DamagedShard where it has faults; ExportError where the place is taken.
    """
    start = time.monotonic()
    _refuse_taken(directory, out)
    promised = read_manifest(directory)
    facts = _facts(directory, promised, kinds, progress, whole=whole)
    if other is not None:
        facts = replace(facts, against=against(other, directory, kinds=kinds, progress=progress))
    # Texts of a data set may hold lone surrogates, which UTF-8 refuses.
    data = page(facts).encode("utf-8", "replace")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, data)
    return Written(out, len(data), time.monotonic() - start)


def _refuse_taken(directory: Path, out: Path) -> None:
    """Refuse a place within the build, or one that holds something other than a report. Raises: ExportError."""
    if out.resolve().is_relative_to(directory.resolve()):
        raise ExportError(f"{out} lies in the build, which holds its own files alone; choose another place with -o")
    if out.is_dir():
        raise ExportError(f"{out} is a folder; name a file with -o")
    above = file_above(out)
    if above is not None:
        raise ExportError(f"{out} cannot be made: {above} is a file; choose another place with -o")
    if out.exists():
        with out.open("rb") as file:
            # An older report may be replaced; any other file is the user's.
            if file.read(len(MARK)) != MARK.encode():
                raise ExportError(f"{out} is there and is no report; choose another place with -o")


def _facts(directory: Path, promised: Manifest, kinds: Kinds, progress: Progress, *, whole: bool) -> Facts:
    proof = _proof(directory, promised, kinds, progress, whole=whole)
    tallies = _tallies(directory, promised, progress)
    prove_files(directory, promised, [CURRICULUM])
    try:
        views, untold = view_teller(directory, kinds), None
    except UserError as error:
        views, untold = None, str(error).removeprefix(f"{directory}: ")
    return Facts(
        manifest=promised,
        proof=proof,
        curriculum=read_curriculum(directory),
        tallies=tallies,
        lost={name: lost_rows(directory, promised, name, most=MOST_LINES) for name in promised.datasets},
        samples=samples(directory, promised, views),
        views_untold=untold,
    )


def _proof(directory: Path, promised: Manifest, kinds: Kinds, progress: Progress, *, whole: bool) -> Proof:
    tokens = sum(counts.tokens for counts in promised.datasets.values())
    if tokens > PROVEN_TOKENS and not whole:
        return Proof(False, {}, ())
    told = prove(directory, kinds=kinds, progress=progress)
    if not told.is_sound:
        first = told.findings[0]
        raise damage(directory / first.file, f"{first.sentence} (`orca-recipe verify {directory}` tells all)")
    return Proof(True, dict(told.checked), told.not_checked)


def _tallies(directory: Path, promised: Manifest, progress: Progress) -> dict[str, DatasetTallies]:
    found = {}
    for name, counts in promised.datasets.items():
        progress.begin(f"report {name}", total=counts.examples, unit="examples")
        found[name] = dataset_tallies(directory, promised, name, progress.advance)
        progress.end(f"{counts.examples:,} examples read")
    return found
