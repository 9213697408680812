"""One build in this process, with one worker, and where its time goes. `compile --profile` runs it.

    python -m tests.bench.profiled RECIPE --store DIR --out DIR --megabytes MB

CPU of a stage is that of all threads; CPU of functions and lines is that of the main thread, libraries included. What
lies between two stages is named after the one before it.
"""

import linecache
import sys
import time
from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from orca_recipes.catalogue import Catalogue
from orca_recipes.progress import Progress
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.build import Asked, build
from orca_recipes.store.store import Store
from tests.bench.sampling import Line, Sampler
from tests.bench.table import table

FUNCTIONS_SHOWN = 40
LINES_SHOWN = 15


class Stages(Progress):
    """Keeps wall and CPU seconds by stage."""

    def __init__(self) -> None:
        self.now = "pin and compile"
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}
        self._since = time.perf_counter(), time.process_time()

    def begin(self, stage: str, *, total: int, unit: str) -> None:
        self.turn(stage)

    def end(self, summary: str) -> None:
        self.turn("publish" if self.now.startswith("write") else f"after {self.now.split()[0]}")

    def turn(self, stage: str) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        self.wall[self.now] = self.wall.get(self.now, 0.0) + wall - self._since[0]
        self.cpu[self.now] = self.cpu.get(self.now, 0.0) + cpu - self._since[1]
        self.now, self._since = stage, (wall, cpu)


def main() -> None:
    parser = ArgumentParser(prog="python -m tests.bench.profiled")
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--megabytes", type=float, required=True, help="text of the corpus")
    options = parser.parse_args()
    stages = Stages()
    sampler = Sampler(lambda: stages.now)
    sampler.start()
    loaded = load_recipe(options.recipe, catalogue=Catalogue(), profile=None, overrides=())
    build(Asked(loaded=loaded, store=Store(options.store), directory=options.out, workers=1), stages)
    stages.turn("")
    sampler.stop()
    sys.stdout.write(_stages(stages, options.megabytes) + _functions(sampler) + _lines(stages, sampler))


def _stages(stages: Stages, megabytes: float) -> str:
    def row(name: str, wall: float, cpu: float) -> tuple[str, ...]:
        share = cpu / sum(stages.cpu.values())
        return name, f"{wall:.2f}", f"{cpu:.2f}", f"{share:.1%}", f"{cpu * 1e3 / megabytes:.2f}"

    rows = [row(name, wall, stages.cpu[name]) for name, wall in stages.wall.items() if wall >= 0.005]
    rows.append(row("all", sum(stages.wall.values()), sum(stages.cpu.values())))
    return table(
        "Stages, imports of our own modules left out", ("stage", "wall s", "CPU s", "of CPU", "CPU ms a MB"), rows
    )


def _functions(sampler: Sampler) -> str:
    cpu: defaultdict[str, float] = defaultdict(float)
    waited: defaultdict[str, float] = defaultdict(float)
    for counts, seconds in ((cpu, sampler.cpu), (waited, sampler.waited)):
        for (_, line), spent in seconds.items():
            counts[f"{line.module}.{line.function}"] += spent
    whole = sum(cpu.values())
    rows = [
        (f"{spent:.2f}", f"{spent / whole:.1%}", f"{waited[name]:.2f}", name)
        for name, spent in _most(cpu)[:FUNCTIONS_SHOWN]
    ]
    return table(
        "Functions of ours, the libraries that they call included", ("CPU s", "of CPU", "waited s", "function"), rows
    )


def _lines(stages: Stages, sampler: Sampler) -> str:
    """The costliest lines of each stage that is worth looking at."""
    text = ""
    whole = sum(stages.cpu.values())
    for stage, cpu in _most(stages.cpu):
        if cpu >= 0.02 * whole:
            lines = {line: spent for (name, line), spent in sampler.cpu.items() if name == stage}
            rows = [
                (f"{spent:.2f}", f"{sampler.waited[stage, line]:.2f}", *_told(line))
                for line, spent in _most(lines)[:LINES_SHOWN]
            ]
            text += table(f"Lines of {stage}", ("CPU s", "waited s", "where", "what", "inside"), rows)
    return text


Key = TypeVar("Key")


def _most(seconds: Mapping[Key, float]) -> list[tuple[Key, float]]:
    return sorted(seconds.items(), key=lambda item: -item[1])


def _told(line: Line) -> tuple[str, str, str]:
    """Where a line stands, what it says, and what it had called."""
    module = sys.modules.get(line.module)
    said = linecache.getline(module.__file__ or "", line.line).strip() if module else ""
    where = f"{line.module.partition('.')[2]}:{line.line}" if line.module else "none of ours"
    return where, said[:70], line.called[-50:]


if __name__ == "__main__":
    main()
