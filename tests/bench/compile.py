"""`compile`: from chat files to packed shards, part by part, and the same work done by others.

Everything that is compared is measured in one run, because the machine is another one tomorrow.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from tests.bench.competition import HOW_TO_INSTALL, PEERS, PeerTrial, compete
from tests.bench.corpus import SHARED, WORK, Corpus, Library, workshop
from tests.bench.machine import load, machine, two_at_once
from tests.bench.measure import Cost, measure
from tests.bench.reach import reach
from tests.bench.recipes import Build, Student, students
from tests.bench.table import table
from tests.bench.trials import PARTS, Course, Trial, start_ups

ADDED_ROWS = 2_000
LAYOUTS = ("jsonl", "parquet")
STUDENTS = ("sentencepiece", "byte-level")


@click.command()
@click.option("--size", default=600.0, show_default=True, help="MB of text of the corpus.")
@click.option("--work", type=click.Path(path_type=Path), default=WORK, show_default=True, help="Corpora are kept here.")
@click.option("--shared", type=click.Path(path_type=Path, exists=True), default=SHARED, help="The shared data.")
@click.option("--only", multiple=True, type=click.Choice(PARTS), help="This part, and the cold build it stands on.")
@click.option("--tokenizer", "chosen", multiple=True, type=click.Choice(STUDENTS), help="This one alone.")
@click.option("--layout", "layouts", multiple=True, type=click.Choice(LAYOUTS), help="This file format alone.")
@click.option("--workers", multiple=True, type=int, help="A number of workers.  [default: 1 and 2]")
@click.option("--peers", default="none", show_default=True, help=f"none, all, or of {', '.join(PEERS)} by commas.")
@click.option(
    "--peer-python", "pythons", multiple=True, metavar="[PEER=]PATH", help="An interpreter that has the peers, or one."
)
@click.option("--profile", is_flag=True, help="Where our time goes, in place of the parts.")
def compile(
    size: float,
    work: Path,
    shared: Path,
    only: tuple[str, ...],
    chosen: tuple[str, ...],
    layouts: tuple[str, ...],
    workers: tuple[int, ...],
    peers: str,
    pythons: tuple[str, ...],
    profile: bool,
) -> None:
    """Measure the compiler on real text."""
    rivals = _rivals(peers, pythons)
    library = Library(work / "corpus", shared)
    corpus = library.of_size(size)
    asked = [student for name, student in students(shared, corpus, work).items() if name in (chosen or STUDENTS)]
    click.echo(f"{machine()}\n{corpus}\n")
    corpora = [corpus if layout == "jsonl" else library.as_parquet(corpus) for layout in layouts or LAYOUTS]
    with workshop(work) as made:
        folder = Path(made)
        if profile:
            for student in asked:
                click.echo(_profile(folder / student.name, student, corpora[0]))
            return
        starts = start_ups(folder)
        click.echo(_starts(starts))
        click.echo(f"{two_at_once()} before the first build\n")
        added = library.of_rows(ADDED_ROWS, skip=corpus.rows)
        trials = _trials(folder / "trial", asked, corpora, added, workers or (1, 2), only or PARTS)
        click.echo(_table(trials))
        click.echo(f"{two_at_once()} after the last build\n")
        others = [
            compete(PEERS[name], student, python=python, library=library, folder=folder)
            for name, python in rivals.items()
            for student in asked
        ]
    if others:
        click.echo(_peers(others, trials))
    click.echo(reach(trials, others, starts))
    click.echo(f"load {load()} at the end")


def _rivals(peers: str, pythons: Sequence[str]) -> dict[str, Path]:
    """The peers asked for, each with its interpreter. Raises: UsageError."""
    names = [] if peers == "none" else list(PEERS) if peers == "all" else peers.split(",")
    if unknown := set(names) - set(PEERS):
        raise click.UsageError(f"there is no peer {', '.join(sorted(unknown))}; there are: {', '.join(PEERS)}")
    given = dict(word.rpartition("=")[::2] for word in pythons)
    found = {name: Path(given.get(name, given.get("", ""))) for name in names}
    for name, python in found.items():
        if not python.is_file():
            raise click.UsageError(f"{name} needs an interpreter, --peer-python PATH; to make one:\n{HOW_TO_INSTALL}")
    return found


def _profile(folder: Path, student: Student, corpus: Corpus) -> str:
    recipe = Build(student, (corpus,)).write(folder / "recipe.toml")
    words: list[str | Path] = [
        sys.executable,
        "-m",
        "tests.bench.profiled",
        recipe,
        "--store",
        folder / "store",
        "--out",
        folder / "out",
    ]
    cost = measure(
        [*words, "--megabytes", str(corpus.megabytes)],
        folder=folder,
        environment={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    return (
        f"{student.name}, {corpus.path.name}, one worker: {cost.wall_seconds:.1f} s, {cost.cpu_seconds:.1f} s of CPU, "
        f"{corpus.megabytes / cost.cpu_seconds:.1f} MB a CPU second, load {os.getloadavg()[0]:.1f}\n\n{cost.output}"
    )


def _trials(
    folder: Path,
    chosen: Sequence[Student],
    corpora: Sequence[Corpus],
    added: Corpus,
    workers: Sequence[int],
    parts: Sequence[str],
) -> list[Trial]:
    """Every part of every course; of another layout than the first, the cold build alone."""
    found = []
    for student in chosen:
        for corpus in corpora:
            for number in workers:
                course = Course(folder, student, corpus, added, number)
                found += course.run(parts if corpus is corpora[0] else ("cold",))
                click.echo(f"{student.name}, {corpus.path.name}, {number} workers: done, load {load()}", err=True)
    return found


def _starts(starts: Mapping[str, Cost]) -> str:
    rows = [(name, f"{cost.wall_seconds:.3f}", f"{cost.cpu_seconds:.3f}") for name, cost in starts.items()]
    return table("Start-up, the best of three", ("what", "wall s", "CPU s"), rows)


def _table(trials: Sequence[Trial]) -> str:
    heads = ("tokenizer", "file", "workers", "part", *_COSTS, "fill")
    rows = [
        (trial.student, trial.layout, trial.workers, trial.part, *_costs(trial), f"{trial.fill:.2%}")
        for trial in trials
    ]
    return table("Whole processes, start-up included", heads, rows)


def _peers(others: Sequence[PeerTrial], trials: Sequence[Trial]) -> str:
    """What peers did, and how many times as fast we are with two workers."""
    rows = []
    for other in others:
        ours = next((t for t in trials if (t.part, t.student, t.workers) == ("cold", other.student, 2)), None)
        times = (f"{ours.rate / other.rate:.1f}", f"{ours.cpu_rate / other.cpu_rate:.1f}") if ours else ("-", "-")
        fill = "-" if other.fill is None else f"{other.fill:.2%}"
        rows.append((other.peer.name, other.student, f"{other.corpus.megabytes:.0f}", *_costs(other), fill, *times))
    told = "\n".join(f"  {peer.name}: {peer.does}" for peer in dict.fromkeys(other.peer for other in others))
    heads = ("peer", "tokenizer", "MB", *_COSTS, "fill", "ours, wall", "ours, CPU")
    return table(f"Peers, whole processes; the last columns say how many times as fast we are\n{told}", heads, rows)


_COSTS = ("wall s", "CPU s", "MB/s", "MB/CPU s", "M tokens/s", "peak MiB", "largest")


def _costs(trial: Trial | PeerTrial) -> tuple[str, ...]:
    cost = trial.cost
    return (
        f"{cost.wall_seconds:.2f}",
        f"{cost.cpu_seconds:.2f}",
        f"{trial.rate:.2f}",
        f"{trial.cpu_rate:.2f}",
        f"{trial.tokens / cost.wall_seconds / 1e6:.2f}",
        f"{cost.peak_bytes >> 20}",
        f"{cost.largest_bytes >> 20}",
    )
