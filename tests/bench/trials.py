"""The runs of `compile`: what is done to a build, part by part, each a whole process.

The parts follow each other over one store as a day's work does: a cold build, the same again, then one change at a time
to the recipe that was first built.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.corpus import Corpus
from tests.bench.measure import Cost, measure
from tests.bench.recipes import Build, Student

COMMAND = Path(sys.executable).with_name("orca-recipe")
PARTS = ("cold", "verify", "again", "row_tokens", "filter", "collection")
OTHER_ROW_TOKENS = 4096
IMPORTS = "import orca_recipes.cli.main, orca_recipes.run.build, orca_recipes.run.execute, polars, pyarrow.parquet"
"""What a build with something to do imports, whatever is left to do."""


@dataclass(frozen=True)
class Trial:
    """One measured run: its part, what it ran on, what it cost and what the build's manifest says."""

    part: str
    student: str
    layout: str
    workers: int
    corpus: Corpus
    cost: Cost
    tokens: int
    fill: float

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
    """The parts for one tokenizer, one layout of the corpus and one number of workers."""

    folder: Path
    student: Student
    corpus: Corpus
    added: Corpus
    workers: int

    def run(self, parts: Sequence[str]) -> list[Trial]:
        """The cold build, which the others stand on, and the parts asked for; nothing of it is left on the disk."""
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            self.folder.mkdir(parents=True)
            return [trial for part in PARTS if part in {"cold", *parts} for trial in (self._trial(part),)]
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _trial(self, part: str) -> Trial:
        if part == "verify":
            cost = measure([COMMAND, "verify", "out"], folder=self.folder)
            made = self.folder / "out"
        else:
            name = "recipe" if part in ("cold", "again") else part
            recipe = self._changed(part).write(self.folder / f"{name}.toml")
            made = self.folder / ("out" if name == "recipe" else f"out-{part}")
            cost = measure(
                [COMMAND, "build", recipe, "--store", "store", "--out", made, "--workers", str(self.workers)],
                folder=self.folder,
            )
        tokens, fill = counts(made)
        layout = self.corpus.path.suffix.removeprefix(".")
        return Trial(part, self.student.name, layout, self.workers, self.corpus, cost, tokens, fill)

    def _changed(self, part: str) -> Build:
        first = Build(self.student, (self.corpus,))
        match part:
            case "row_tokens":
                return first.with_changes(row_tokens=OTHER_ROW_TOKENS)
            case "filter":
                return first.with_changes(min_answer_chars=2)
            case "collection":
                return first.with_changes(corpora=(self.corpus, self.added))
            case _:
                return first


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
