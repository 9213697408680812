"""The runs of `compile`: what is done to a build, part by part, each a whole process.

The parts follow each other over one store as a day's work does: a cold build, the same again, then one change at a time
to the recipe that was first built. A rule and a seed are changed in recipes of their own, which are built before, each
into a store of its own, and not measured.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import median
from typing import Any

import click

from orca_recipes.counted import counted
from tests.bench.corpus import Corpus
from tests.bench.measure import Cost, measure
from tests.bench.programs import Program
from tests.bench.recipes import Build, Student

COMMAND = Path(sys.executable).with_name("orca-recipe")
PARTS = ("cold", "again", "verify", "row_tokens", "filter", "filter_removed", "rule", "seed", "collection")
OTHER_ROW_TOKENS = 4096
_TEN = tuple(f"Answer as number {number} of ten would." for number in range(10))
IMPORTS = "import orca_recipes.cli.main, orca_recipes.run.build, orca_recipes.run.execute, polars, pyarrow.parquet"
"""What a build with something to do imports, whatever is left to do."""


@dataclass(frozen=True)
class Trial:
    """One measured run: its part, what it ran on, what it cost and what the build's manifest says."""

    commit: str
    part: str
    student: str
    layout: str
    workers: int
    corpus: Corpus
    cost: Cost
    tokens: int
    fill: float

    @property
    def course(self) -> tuple[str, str, int]:
        """What a trial of another commit is compared by, beside its part."""
        return self.student, self.layout, self.workers

    @property
    def rate(self) -> float:
        """MB of text a second."""
        return self.corpus.megabytes / self.cost.wall_seconds

    @property
    def cpu_rate(self) -> float:
        """MB of text a CPU second."""
        return self.corpus.megabytes / self.cost.cpu_seconds


@dataclass(frozen=True)
class Course:
    """The parts for one program, one tokenizer, one layout of the corpus and one number of workers.

    added: a second collection. questions: the corpus' first exchanges, of a hundred tasks.
    """

    program: Program
    folder: Path
    student: Student
    corpus: Corpus
    added: Corpus
    questions: Corpus
    workers: int

    def run(self, parts: Sequence[str]) -> list[Trial]:
        """The cold build, which the others stand on, and the parts asked for; nothing of it is left on the disk."""
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            self.folder.mkdir(parents=True)
            return [self._told_trial(part) for part in PARTS if part in {"cold", *parts}]
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _told_trial(self, part: str) -> Trial:
        """A part, told as soon as it is measured: all of them may take hours."""
        trial = self._trial(part)
        course = f"{trial.commit}, {trial.student}, {trial.layout}, {counted(trial.workers, 'worker')}"
        told = f"{trial.cost.cpu_seconds:.2f} CPU s, {trial.cost.wall_seconds:.2f} s"
        click.echo(f"{course}: {part}: {told}", err=True)
        return trial

    def _trial(self, part: str) -> Trial:
        if part == "verify":
            cost = measure([self.program.command, "verify", "out"], folder=self.folder)
            made = self.folder / "out"
        else:
            before = self._before(part)
            if before is not None:
                self._build(before, f"before-{part}", f"store-{part}")
            name = "recipe" if part in ("cold", "again") else part
            made = self.folder / ("out" if name == "recipe" else f"out-{part}")
            cost = self._build(self._changed(part), name, "store" if before is None else f"store-{part}", made.name)
        tokens, fill = counts(made)
        layout = self.corpus.path.suffix.removeprefix(".")
        commit, corpus = self.program.commit, self.corpus
        return Trial(commit, part, self.student.name, layout, self.workers, corpus, cost, tokens, fill)

    def _build(self, build: Build, name: str, store: str, out: str | None = None) -> Cost:
        recipe = build.write(self.folder / f"{name}.toml")
        words = ["build", recipe, "--store", store, "--out", out or f"out-{name}", "--workers", str(self.workers)]
        return measure([self.program.command, *words], folder=self.folder)

    def _before(self, part: str) -> Build | None:
        """What is built before a part that does not stand on the cold build."""
        match part:
            case "rule":
                return Build(self.student, (self.questions,), system_messages=_TEN)
            case "seed":
                return Build(self.student, (self.corpus,), rows=self.corpus.rows // 2)
            case _:
                return None

    def _changed(self, part: str) -> Build:
        first = Build(self.student, (self.corpus,))
        match part:
            case "row_tokens":
                return first.with_changes(row_tokens=OTHER_ROW_TOKENS)
            case "filter":
                return first.with_changes(min_answer_chars=2)
            case "filter_removed":
                return first.with_changes(max_chars=None)
            case "rule":
                changed = ("Take your time, and be exact.", *_TEN[1:])
                return Build(self.student, (self.questions,), system_messages=changed)
            case "seed":
                return first.with_changes(rows=self.corpus.rows // 2, seed=2)
            case "collection":
                return first.with_changes(corpora=(self.corpus, self.added))
            case _:
                return first


def medians(trials: Sequence[Trial]) -> list[Trial]:
    """One trial for each part of each course, with the medians of what its repetitions cost."""
    groups: dict[tuple[object, ...], list[Trial]] = {}
    for trial in trials:
        groups.setdefault((trial.commit, *trial.course, trial.part), []).append(trial)
    return [replace(group[0], cost=_median([trial.cost for trial in group])) for group in groups.values()]


def ratios(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Of the medians of two commits: what the first costs over what the other costs, part by part."""
    commits = list(dict.fromkeys(trial.commit for trial in trials))
    theirs = {(*trial.course, trial.part): trial.cost for trial in trials if trial.commit != commits[0]}
    found = []
    for trial in trials:
        other = theirs.get((*trial.course, trial.part))
        if trial.commit == commits[0] and other is not None:
            mine = trial.cost
            found.append(
                {
                    "course": trial.course,
                    "part": trial.part,
                    "wall": round(mine.wall_seconds / other.wall_seconds, 4),
                    "cpu": round(mine.cpu_seconds / other.cpu_seconds, 4),
                    "peak": round(mine.peak_bytes / other.peak_bytes, 4),
                }
            )
    return found


def _median(costs: Sequence[Cost]) -> Cost:
    values = {
        field.name: type(getattr(costs[0], field.name))(median(getattr(cost, field.name) for cost in costs))
        for field in fields(Cost)
        if field.name != "output"
    }
    return Cost(**values, output=costs[0].output)


def counts(directory: Path) -> tuple[int, float]:
    """Tokens of a build, and how full its rows are."""
    manifest: dict[str, Any] = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    datasets = manifest["datasets"].values()
    tokens = sum(dataset["tokens"] for dataset in datasets)
    return tokens, tokens / (sum(dataset["rows"] for dataset in datasets) * manifest["row_tokens"])


def start_ups(folder: Path) -> dict[str, Cost]:
    """What starting costs before anything is done; the best of three, the first of which warms the disk's cache."""
    commands: dict[str, list[str | Path]] = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "orca-recipe --help": [COMMAND, "--help"],
        "imports of a build": [sys.executable, "-c", IMPORTS],
    }
    return {
        name: min((measure(command, folder=folder) for _ in range(3)), key=lambda cost: cost.wall_seconds)
        for name, command in commands.items()
    }
