"""`large`: millions of examples on this machine, memory against a tenth of them, and how the cost grows."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import click

from tests.bench.compile import STUDENTS
from tests.bench.corpus import SHARED, WORK, Corpus, Library, workshop
from tests.bench.machine import load, machine
from tests.bench.measure import Cost, measure
from tests.bench.recipes import Build, Student, students
from tests.bench.slopes import slopes
from tests.bench.table import table
from tests.bench.trials import COMMAND, counts

VERIFIED_SHARE = "0.01"
_STUDENT_MEGABYTES = 150
_DISK_A_BYTE_OF_TEXT = 7
"""The corpus, the store and the build, about, with a margin."""


@dataclass(frozen=True)
class Sized:
    """One size of build; disk_bytes is what store and build take."""

    corpus: Corpus
    build: Cost
    verify: Cost
    tokens: int
    fill: float
    disk_bytes: int


@click.command()
@click.option(
    "--examples", default=5_000_000, show_default=True, help="Of the large build; a tenth is built before it."
)
@click.option("--work", type=click.Path(path_type=Path), default=WORK, show_default=True, help="Corpora are kept here.")
@click.option("--shared", type=click.Path(path_type=Path, exists=True), default=SHARED, help="The shared data.")
@click.option("--tokenizer", "chosen", type=click.Choice(STUDENTS), default=STUDENTS[0], show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--only", type=click.Choice(["builds", "slopes"]), help="One of the two alone.")
@click.option("--slope-examples", default=40_000, show_default=True, help="Examples that the slopes are taken at.")
def large(
    examples: int, work: Path, shared: Path, chosen: str, workers: int, only: str | None, slope_examples: int
) -> None:
    """Build very much, verify it by sample, and measure how the cost grows."""
    library = Library(work / "corpus", shared)
    student = students(shared, library.of_size(_STUDENT_MEGABYTES), work)[chosen]
    click.echo(f"{machine()}\n")
    if only != "slopes":
        small = library.of_rows(examples // 10)
        _refuse_full_disk(work, small.text_bytes * 10)
        corpora = [small, library.of_rows(examples)]
        click.echo("\n".join(str(corpus) for corpus in corpora) + "\n")
        with workshop(work) as folder:
            built = [_built(Path(folder) / "large", student, corpus, workers) for corpus in corpora]
        click.echo(_table(built, workers))
    if only != "builds":
        with workshop(work) as folder:
            click.echo(slopes(Path(folder), student, library, slope_examples))
    click.echo(f"load {load()} at the end")


def _refuse_full_disk(work: Path, text_bytes: int) -> None:
    """Raises: ClickException where the disk would be full before the end."""
    free, needed = shutil.disk_usage(work).free, _DISK_A_BYTE_OF_TEXT * text_bytes
    if free < needed:
        raise click.ClickException(f"{work}: about {needed / 1e9:.0f} GB are needed, {free / 1e9:.0f} GB are free")


def _built(folder: Path, student: Student, corpus: Corpus, workers: int) -> Sized:
    shutil.rmtree(folder, ignore_errors=True)
    try:
        recipe = Build(student, (corpus,)).write(folder / "recipe.toml")
        build = measure(
            [COMMAND, "build", recipe, "--store", "store", "--out", "out", "--workers", str(workers)], folder=folder
        )
        verify = measure([COMMAND, "verify", "out", "--sample", VERIFIED_SHARE], folder=folder)
        disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return Sized(corpus, build, verify, *counts(folder / "out"), disk)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _table(built: list[Sized], workers: int) -> str:
    heads = (
        "examples",
        "MB",
        "wall s",
        "CPU s",
        "MB/CPU s",
        "peak MiB",
        "largest",
        "own MiB",
        "disk MB",
        "fill",
        "verify s",
        "verify MiB",
    )
    rows = [
        (
            f"{sized.corpus.rows:,}",
            f"{sized.corpus.megabytes:.0f}",
            f"{sized.build.wall_seconds:.1f}",
            f"{sized.build.cpu_seconds:.1f}",
            f"{sized.corpus.megabytes / sized.build.cpu_seconds:.1f}",
            f"{sized.build.peak_bytes >> 20}",
            f"{sized.build.largest_bytes >> 20}",
            f"{sized.build.own_bytes >> 20}",
            f"{sized.disk_bytes / 1e6:.0f}",
            f"{sized.fill:.2%}",
            f"{sized.verify.wall_seconds:.1f}",
            f"{sized.verify.peak_bytes >> 20}",
        )
        for sized in built
    ]
    grown = built[-1].build.own_bytes / max(1, built[0].build.own_bytes)
    title = f"Cold builds with {workers} workers; the most that a process holds of its own grew {grown:.2f}-fold"
    return table(title, heads, rows)
