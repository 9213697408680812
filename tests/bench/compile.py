"""`compile`: from chat files to packed shards, part by part, and the same work done by others.

Everything that is compared is measured in one run, because the machine is another one tomorrow.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from tests.bench.competition import HOW_TO_INSTALL, PEERS, PeerTrial, compete
from tests.bench.corpus import SHARED, WORK, Corpus, Library, workshop
from tests.bench.machine import load, machine, two_at_once
from tests.bench.measure import Cost, measure
from tests.bench.programs import here, installed
from tests.bench.reach import reach
from tests.bench.recipes import Build, Student, students
from tests.bench.table import table
from tests.bench.trials import PARTS, Course, Trial, medians, ratios, start_ups

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
@click.option("--against", metavar="REV", help="Another commit, installed beside and measured in the same run.")
@click.option("--repeat", default=1, show_default=True, help="Do all so many times, in turn; medians are compared.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Where to write what was measured.")
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
    against: str | None,
    repeat: int,
    out: Path | None,
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
        programs = [here()] if against is None else [here(), installed(against, folder)]
        starts = start_ups(folder)
        click.echo(_starts(starts))
        click.echo(f"{two_at_once()} before the first build\n")
        added = library.of_rows(ADDED_ROWS, skip=corpus.rows)
        questions = library.as_questions(corpus)
        courses = [
            (Course(program, folder / "trial", student, file, added, questions, number), parts)
            for student in asked
            for file in corpora
            for number in workers or (1, 2)
            for program in programs
            for parts in [(only or PARTS) if file is corpora[0] else ("cold",)]
        ]
        measured = _repeated(courses, repeat, out)
        trials = medians(measured)
        click.echo(_table(trials))
        if against is not None:
            click.echo(_ratios(trials))
        click.echo(f"{two_at_once()} after the last build\n")
        others = [
            compete(PEERS[name], student, python=python, library=library, folder=folder)
            for name, python in rivals.items()
            for student in asked
        ]
    if others:
        click.echo(_peers(others, trials))
    click.echo(reach([trial for trial in trials if trial.commit == programs[0].commit], others, starts))
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


def _repeated(courses: Sequence[tuple[Course, Sequence[str]]], repeat: int, out: Path | None) -> list[Trial]:
    """Every course in turn, so often: what the machine does meanwhile meets all alike.

    Args:
        out: where to write what was measured, after each course: all of them may take hours.
    """
    found: list[Trial] = []
    for number in range(repeat):
        for course, parts in courses if number % 2 == 0 else courses[::-1]:
            found += course.run(parts)
            click.echo(f"{number + 1} of {repeat}, load {load()}", err=True)
            if out is not None:
                out.write_text(json.dumps(_as_json(found), indent=1) + "\n", encoding="utf-8")
    return found


def _starts(starts: Mapping[str, Cost]) -> str:
    rows = [(name, f"{cost.wall_seconds:.3f}", f"{cost.cpu_seconds:.3f}") for name, cost in starts.items()]
    return table("Start-up, the best of three", ("what", "wall s", "CPU s"), rows)


def _table(trials: Sequence[Trial]) -> str:
    heads = ("commit", "tokenizer", "file", "workers", "part", *_COSTS, "fill")
    rows = [(trial.commit, *trial.course, trial.part, *_costs(trial), f"{trial.fill:.2%}") for trial in trials]
    return table("Whole processes, start-up included", heads, rows)


def _ratios(trials: Sequence[Trial]) -> str:
    rows = [
        (*ratio["course"], ratio["part"], *(f"{ratio[name]:.3f}" for name in ("wall", "cpu", "peak")))
        for ratio in ratios(trials)
    ]
    title = f"What {trials[0].commit} costs, over what the other commit costs; medians"
    return table(title, ("tokenizer", "file", "workers", "part", "wall", "CPU", "peak"), rows)


def _as_json(measured: Sequence[Trial]) -> dict[str, Any]:
    names = ("tokenizer", "file", "workers")
    rows = [
        {
            "commit": trial.commit,
            **dict(zip(names, trial.course, strict=True)),
            "part": trial.part,
            "wall": round(trial.cost.wall_seconds, 3),
            "cpu": round(trial.cost.cpu_seconds, 3),
            "peak": trial.cost.peak_bytes,
        }
        for trial in measured
    ]
    compared = [{**dict(zip(names, ratio.pop("course"), strict=True)), **ratio} for ratio in ratios(medians(measured))]
    return {"tried": len(rows), "survived": len(rows), "failed": [], "rows": rows, "ratios": compared}


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
