"""`scale`: what a build of 10^6 to 10^9 examples would take on 1 to 300 nodes, by costs that are measured here.

Parts are timed where they run, one after the other; then the model (`cluster_model`) hands them to nodes. It is held
against real builds on one, two and three nodes of this machine. That validates what a cluster adds (start, handing out,
hearing back), and nothing else: nodes of one machine share its cores, and no network is between them.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import click

from orca_plugins.engines.local import Local
from orca_plugins.engines.ray import Ray
from orca_recipes.cli.main import main
from orca_recipes.run import VERBS
from orca_recipes.shards.manifest import read_manifest
from tests.bench.cluster_model import Cluster, Costs, PartCost, foretold, steps_of
from tests.bench.compile import STUDENTS
from tests.bench.corpus import SHARED, WORK, Corpus, Library, workshop
from tests.bench.machine import load, machine
from tests.bench.measure import Cost, family, measure
from tests.bench.recipes import Build, Student, students
from tests.bench.table import table
from tests.bench.trials import COMMAND
from tests.campaign.ray_nodes import RayNodes

EXAMPLES = (1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
NODES = (1, 3, 10, 30, 100, 300)
HERE_NODES = 3
_STUDENT_MEGABYTES = 25
_FIRST_ROWS = 200
_SAMPLE_SECONDS = 0.2
_NOTHINGS = 500
"""Parts of nothing, by which handing out and hearing back are timed."""
_LEAVING_SECONDS = 10
"""Until a cluster knows that a node is gone."""
_SMALL = """
import sys
from orca_recipes.run.examples import read
from orca_recipes.cli.main import main
read.SLICE_BYTES = int(sys.argv[1])
main(sys.argv[2:])
"""
"""The command, with slices of another size."""


@dataclass(frozen=True)
class Row:
    """A build as foretold, and as it was where it was made here; seconds."""

    examples: int
    nodes: int
    predicted: float
    measured: float | None
    usd: float | None
    bottleneck: str
    parts: int
    retried: int


@click.command()
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write the rows here.")
@click.option("--megabytes", default=40.0, show_default=True, help="Of text, of the builds that are made here.")
@click.option("--work", type=click.Path(path_type=Path), default=WORK, show_default=True, help="Corpora are kept here.")
@click.option("--shared", type=click.Path(path_type=Path, exists=True), default=SHARED, help="The shared data.")
@click.option("--tokenizer", "chosen", type=click.Choice(STUDENTS), default=STUDENTS[0], show_default=True)
@click.option(
    "--parts", default=0, help="Also build here with about so many small parts, and tell the driver's memory."
)
def scale(file: Path | None, megabytes: float, work: Path, shared: Path, chosen: str, parts: int) -> None:
    """Foretell builds on clusters, and hold the model against builds on nodes of this machine."""
    library = Library(work / "corpus", shared)
    student = students(shared, library.of_size(_STUDENT_MEGABYTES), work)[chosen]
    corpus = library.of_size(megabytes)
    click.echo(f"{machine()}\n{corpus}\n")
    with workshop(work) as place:
        bench = _bench_in(Path(place), student, corpus)
        steps = bench.timed()
        with RayNodes(HERE_NODES) as nodes:
            handing = bench.handing_seconds(nodes)
            begin = bench.built(nodes, of=bench.small)
            costs = Costs(steps, begin.wall_seconds, handing)
            made = [(number, bench.built(nodes)) for number in _ever_fewer(nodes)]
            rows = [bench.held(number, costs, cost) for number, cost in made]
            click.echo(bench.told_cpu(made[0][1].cpu_seconds, begin.cpu_seconds))
            if parts:
                click.echo(bench.told_memory(nodes, parts))
    click.echo(_told_costs(costs))
    rows += [
        _row(foretold(costs, Cluster(nodes), examples), examples, nodes) for examples in EXAMPLES for nodes in NODES
    ]
    click.echo(_told_rows(rows))
    click.echo(f"load {load()} at the end")
    if file is not None:
        file.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class _Bench:
    """Builds of one recipe over one corpus, in a folder; small: the recipe of the corpus' first rows."""

    folder: Path
    recipe: Path
    small: Path
    corpus: Corpus

    def timed(self) -> list[PartCost | tuple[str, float]]:
        """Build in this process, and time each part and what is done between them."""
        with _timing() as found:
            main(self._arguments("--workers", "1"), standalone_mode=False)
        manifest = read_manifest(self.folder / "out")
        driver: Counter[str] = Counter()
        for name, seconds in manifest.made.timings.items():
            driver[name.split(" ")[0]] += seconds
        parts, before = {}, float(self.corpus.file_bytes)
        for verb in VERBS:
            times = found.get(verb, [])
            written = _bytes_of(self.folder, verb)
            if times:
                driver[verb] -= sum(times)
                each = len(times)
                parts[verb] = PartCost(verb, self.corpus.rows / each, sum(times) / each, before / each, written / each)
                before = written or before
        rates = {verb: seconds / self.corpus.rows for verb, seconds in driver.items() if seconds > 0}
        return steps_of(list(VERBS), parts, rates)

    def handing_seconds(self, nodes: RayNodes) -> float:
        """What the driver takes for each part that takes no time."""
        engine = Ray(address=nodes.address)
        try:
            list(engine.map(function=math.factorial, tasks=[1] * 10, workers=1))
            began = time.monotonic()
            list(engine.map(function=math.factorial, tasks=[1] * _NOTHINGS, workers=1))
            return (time.monotonic() - began) / _NOTHINGS
        finally:
            engine.close()

    def built(self, nodes: RayNodes | None, of: Path | None = None) -> Cost:
        """A cold build as a command, on the cluster or by two processes of this machine; CPU is of both."""
        engine = () if nodes is None else ("--set", "engine.kind=ray", "--set", f"engine.address={nodes.address}")
        command = [COMMAND, *self._arguments("--workers", "2", *engine, of=of)]
        if nodes is None:
            return measure(command, folder=self.folder)
        before, used, ended = family(nodes.pid), dict[int, float](), threading.Event()

        def watch() -> None:
            while not ended.wait(_SAMPLE_SECONDS):
                used.update(family(nodes.pid))

        watching = threading.Thread(target=watch, daemon=True)
        watching.start()
        cost = measure(command, folder=self.folder)
        ended.set()
        watching.join()
        theirs = sum(seconds - before.get(pid, 0.0) for pid, seconds in used.items())
        return replace(cost, cpu_seconds=cost.cpu_seconds + theirs)

    def told_cpu(self, ray: float, ray_begin: float) -> str:
        """The CPU of the cluster against that of the engine `local`, both without what a build of nothing takes."""
        local, local_begin = (self.built(None, of).cpu_seconds for of in (None, self.small))
        ratio = (ray - ray_begin) / (local - local_begin)
        return (
            f"CPU of {self.corpus.megabytes:.0f} MB: ray {ray:.1f} s ({ray_begin:.1f} of them start-up), "
            f"local {local:.1f} s ({local_begin:.1f}); after start-up {ratio:.2f} times"
        )

    def told_memory(self, nodes: RayNodes, parts: int) -> str:
        """The driver's memory in a build of many small parts: three verbs make parts of each slice."""
        slices = str(max(256, 3 * self.corpus.file_bytes // parts))
        engine = ("--set", "engine.kind=ray", "--set", f"engine.address={nodes.address}")
        command = [sys.executable, "-c", _SMALL, slices, *self._arguments("--json", *engine)]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=True)
        told = json.loads(done.stdout)
        peak, ran = told["main"]["peak_bytes"], told["engine"]["parts"]
        return f"the driver of {ran:,} parts: {peak / 2**30:.2f} GiB, {told['main']['cpu_seconds']:.0f} CPU seconds"

    def held(self, nodes: int, costs: Costs, made: Cost) -> Row:
        """A build on nodes of this machine, foretold and made."""
        model = Cluster(
            nodes,
            cores=1,
            shared_cores=float(len(os.sched_getaffinity(0))),
            store_seconds=0,
            store_requests_second=1e6,
            failures_hour=0,
            slow_share=0,
        )
        told = foretold(costs, model, self.corpus.rows)
        return replace(_row(told, self.corpus.rows, nodes), measured=round(made.wall_seconds, 1), usd=None)

    def _arguments(self, *more: str, of: Path | None = None) -> list[str]:
        for name in ("out", "store"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        places = ("--store", str(self.folder / "store"), "--out", str(self.folder / "out"))
        return ["build", str(of or self.recipe), *places, *more]


def _bench_in(place: Path, student: Student, corpus: Corpus) -> _Bench:
    """The recipe of a corpus, and one of its first rows."""
    first = place / "first.jsonl"
    with corpus.path.open("rb") as lines:
        first.write_bytes(b"".join(islice(lines, _FIRST_ROWS)))
    small = replace(corpus, path=first, rows=_FIRST_ROWS, file_bytes=first.stat().st_size)
    recipes = [
        Build(student, (each,)).write(place / f"{name}.toml") for name, each in (("recipe", corpus), ("small", small))
    ]
    return _Bench(place, *recipes, corpus)


def _ever_fewer(nodes: RayNodes) -> Iterator[int]:
    """How many nodes there are: all, then one less each time."""
    for number in range(HERE_NODES, 0, -1):
        yield number
        if number > 1:
            nodes.kill()
            time.sleep(_LEAVING_SECONDS)


@contextmanager
def _timing() -> Iterator[dict[str, list[float]]]:
    """Time the parts of builds in this process, by verb: CPU seconds of all of its threads."""
    found: dict[str, list[float]] = defaultdict(list)
    original = Local.map

    def timed(self: Local, *, function: Any, tasks: Sequence[Any], workers: int) -> Iterator[tuple[int, Any]]:
        for position, task in enumerate(tasks):
            began = time.process_time()
            result = function(task)
            found[function.__module__.rpartition(".")[2]].append(time.process_time() - began)
            yield position, result

    Local.map = timed  # type: ignore[method-assign,assignment]
    try:
        yield found
    finally:
        Local.map = original  # type: ignore[method-assign]


def _bytes_of(folder: Path, verb: str) -> float:
    """What the stages of a verb take in the store; shards, in the build."""
    places = (folder / "store" / "stages").glob(f"{verb}-*") if verb != "write" else [folder / "out"]
    return float(sum(path.stat().st_size for place in places for path in place.rglob("*") if path.is_file()))


def _row(told: Any, examples: int, nodes: int) -> Row:
    return Row(
        examples, nodes, round(told.seconds, 1), None, round(told.usd, 2), told.bottleneck, told.parts, told.retried
    )


def _told_costs(costs: Costs) -> str:
    lines = []
    for step in costs.steps:
        if isinstance(step, PartCost):
            moved = f"{step.read_bytes / 1e6:.2f} / {step.written_bytes / 1e6:.2f}"
            lines.append((step.verb, "parts", f"{step.examples:,.0f}", f"{step.cpu_seconds:.3f}", moved))
        else:
            lines.append((step[0], "driver", "", f"{step[1] * 1e6:.2f} µs an example", ""))
    title = (
        f"costs: a build of next to nothing {costs.begin_seconds:.1f} s, handing out a part and hearing back "
        f"{costs.driver_part_seconds * 1e3:.2f} ms"
    )
    return table(title, ("verb", "by", "examples", "seconds", "MB in / out"), lines)


def _told_rows(rows: Sequence[Row]) -> str:
    lines = [
        (
            f"{row.examples:,}",
            str(row.nodes),
            f"{row.predicted:,.0f}",
            "" if row.measured is None else f"{row.measured:,.0f}",
            "" if row.usd is None else f"{row.usd:,.2f}",
            row.bottleneck,
            f"{row.parts:,}",
            str(row.retried),
        )
        for row in rows
    ]
    head = ("examples", "nodes", "predicted s", "measured s", "usd", "held up by", "parts", "again")
    return table(
        "builds foretold; nodes of 32 cores, those measured are of this machine, with one core each", head, lines
    )
