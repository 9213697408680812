"""`scale`: what a build of 10^6 to 10^9 examples would take on 1 to 300 nodes, by costs that are measured here.

Parts are timed where they run, one after the other (`cluster_costs`); then the model (`cluster_model`) hands them to
nodes. It is held against real builds on one, two and three nodes of this machine. That validates what a cluster adds
(start, handing out, hearing back), and nothing else: nodes of one machine share its cores, and no network is between
them.
"""

from __future__ import annotations

import json
import math
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import click

from orca_plugins.engines.ray import Ray
from tests.bench.cluster_costs import emptied, measured_memory, measured_steps
from tests.bench.cluster_model import Alone, Cluster, Costs, Foretold, foretold
from tests.bench.compile import STUDENTS
from tests.bench.corpus import SHARED, WORK, Corpus, Library, workshop
from tests.bench.machine import cores_to_be_had, load, machine
from tests.bench.measure import Cost, family, measure
from tests.bench.recipes import Build, Student, students
from tests.bench.table import table
from tests.bench.trials import COMMAND
from tests.campaign.ray_nodes import RayNodes
from tests.servers.object_server import ObjectServer

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
_READY = (
    "from orca_recipes.run.work.workers import import_libraries as ready; ready(None); "
    "import sys; from tokenizers import Tokenizer; len(sys.argv) > 1 and Tokenizer.from_file(sys.argv[1])"
)
"""What a process of a node does before its first part."""
_SMALL = """
import sys
from orca_recipes.run.examples import read
from orca_recipes.cli.main import main
read.SLICE_BYTES = int(sys.argv[1])
main(sys.argv[2:])
"""
"""The command, with slices of another size."""
HEAD_BYTES = 64 * 2**30
"""Memory of the machine that the driver runs on."""


@dataclass(frozen=True)
class Row:
    """A build as foretold, and as it was where it was made here; seconds.

    cores: that were to be had here. speedup: over one node. driver_gib: memory of the driver.
    """

    examples: int
    nodes: int
    predicted: float
    measured: float | None
    cores: float | None
    usd: float | None
    speedup: float | None
    held_up_by: str
    parts: int
    retried: int
    driver_gib: float
    breaks: str


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
    corpus, quarter = library.of_size(megabytes), library.of_size(megabytes / 4)
    click.echo(f"{machine()}\n{corpus}\n")
    with workshop(work) as folder:
        place = Path(folder)
        steps = measured_steps(place, student, quarter, corpus)
        memory, begin_memory = measured_memory(place, student)
        bench = _bench_in(place, student, corpus)
        ready = measure([sys.executable, "-c", _READY, *_tokenizer_file(student)], folder=place).wall_seconds
        with RayNodes(HERE_NODES) as nodes:
            handing = bench.handing_seconds(nodes)
            bench.built(of=bench.small, nodes=nodes)  # the first processes of a cluster start more slowly
            made = [bench.made_on(nodes, number) for number in _ever_fewer(nodes)]
            begin = max(0.0, statistics.median(one.begin.wall_seconds for one in made) - ready)
            costs = Costs(steps, begin, ready, handing, memory, begin_memory)
            click.echo(_told_costs(costs))
            here = [bench.held(costs, one) for one in made]
            click.echo(_told_here(here))
            click.echo(bench.told_cpu(made))
            if parts:
                click.echo(bench.told_memory(nodes, parts))
        click.echo(bench.told_objects())
    rows = list(_foretold_rows(costs))
    click.echo(_told_rows(rows))
    click.echo(_told_limits(costs))
    click.echo(f"load {load()} at the end")
    if file is not None:
        file.write_text(json.dumps([asdict(row) for row in (*here, *rows)], indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class _Made:
    """A build on so many nodes of this machine, one of next to nothing just before, and the cores to be had then."""

    nodes: int
    begin: Cost
    whole: Cost
    cores: float


@dataclass(frozen=True)
class _Bench:
    """Builds of one recipe over one corpus, in a folder; small: the recipe of the corpus' first rows."""

    folder: Path
    recipe: Path
    small: Path
    corpus: Corpus

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

    def built(self, of: Path | None = None, nodes: RayNodes | None = None, server: ObjectServer | None = None) -> Cost:
        """A cold build as a command: on the cluster or by two processes of this machine, into a folder or an address.

        CPU is of the command and of the cluster; a server's is not counted.
        """
        more = () if nodes is None else ("--set", "engine.kind=ray", "--set", f"engine.address={nodes.address}")
        emptied(self.folder)
        shutil.rmtree(self.folder / "cache", ignore_errors=True)
        store = str(self.folder / "store") if server is None else f"s3://{server.bucket}/{time.monotonic_ns()}"
        words = ["build", str(of or self.recipe), "--store", store, "--out", str(self.folder / "out"), *more]
        surroundings = {"ORCA_CACHE": str(self.folder / "cache"), **(server.environment if server else {})}

        def run() -> Cost:
            return measure([COMMAND, *words, "--workers", "2"], folder=self.folder, environment=surroundings)

        return run() if nodes is None else _with_cluster(run, nodes.pid)

    def made_on(self, nodes: RayNodes, number: int) -> _Made:
        """Cold builds on the cluster, the cores to be had looked at before and after."""
        before = cores_to_be_had()
        begin, whole = self.built(self.small, nodes), self.built(nodes=nodes)
        return _Made(number, begin, whole, (before + cores_to_be_had()) / 2)

    def told_cpu(self, made: Sequence[_Made]) -> str:
        """The CPU of the cluster against that of the engine `local`, both without what a build of nothing takes."""
        ray = [(one.whole.cpu_seconds, one.begin.cpu_seconds) for one in made]
        local = [(self.built().cpu_seconds, self.built(self.small).cpu_seconds) for _ in made]
        told, after = [], []
        for name, pairs in (("ray", ray), ("local", local)):
            whole, begin = (statistics.median(column) for column in zip(*pairs, strict=True))
            after.append(statistics.median(whole - begin for whole, begin in pairs))
            told.append(f"{name} {whole:.1f} s ({begin:.1f} of them start-up)")
        return (
            f"CPU of {self.corpus.megabytes:.0f} MB, medians of {len(made)}: {told[0]}, {told[1]}; "
            f"after start-up {after[0]:.2f} s and {after[1]:.2f} s: {after[0] / after[1]:.2f} times"
        )

    def told_objects(self) -> str:
        """The CPU of our own processes with the store at an S3 server against that with a folder."""
        with ObjectServer() as server:
            before = sum(family(server.pid).values())
            there, here = self.built(server=server).cpu_seconds, self.built().cpu_seconds
            servers = sum(family(server.pid).values()) - before
        return (
            f"CPU of {self.corpus.megabytes:.0f} MB: store at an S3 server {there:.1f} s, in a folder {here:.1f} s: "
            f"{there / here:.2f} times; the server's own {servers:.1f} s"
        )

    def told_memory(self, nodes: RayNodes, parts: int) -> str:
        """The driver's memory in a build of many small parts: three verbs make parts of each slice."""
        slices = str(max(256, 3 * self.corpus.file_bytes // parts))
        emptied(self.folder)
        words = ["build", str(self.recipe), "--store", "store", "--out", "out", "--json"]
        engine = ("--set", "engine.kind=ray", "--set", f"engine.address={nodes.address}")
        command = [sys.executable, "-c", _SMALL, slices, *words, *engine]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=True)
        told = json.loads(done.stdout)
        peak, ran = told["main"]["peak_bytes"], told["engine"]["parts"]
        return f"the driver of {ran:,} parts: {peak / 2**30:.2f} GiB, {told['main']['cpu_seconds']:.0f} CPU seconds"

    def held(self, costs: Costs, made: _Made) -> Row:
        """A build on nodes of this machine, foretold and made; its begin is that of the build just before."""
        costs = replace(costs, begin_seconds=max(0.0, made.begin.wall_seconds - costs.ready_seconds))
        model = Cluster(
            made.nodes,
            cores=1,
            shared_cores=made.cores,
            store_seconds=0,
            store_requests_second=1e6,
            failures_hour=0,
            slow_share=0,
        )
        told = foretold(costs, model, self.corpus.rows)
        row = _row(told, self.corpus.rows, made.nodes, None)
        return replace(row, measured=round(made.whole.wall_seconds, 1), cores=round(made.cores, 2), usd=None)


def _with_cluster(run: Callable[[], Cost], cluster: int) -> Cost:
    """What a command costs, with what the processes of a cluster use meanwhile."""
    before, used, ended = family(cluster), dict[int, float](), threading.Event()

    def watch() -> None:
        while not ended.wait(_SAMPLE_SECONDS):
            used.update(family(cluster))

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    cost = run()
    ended.set()
    watching.join()
    theirs = sum(seconds - before.get(pid, 0.0) for pid, seconds in used.items())
    return replace(cost, cpu_seconds=cost.cpu_seconds + theirs)


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


def _tokenizer_file(student: Student) -> list[Path]:
    path = student.path / "tokenizer.json" if student.path.is_dir() else student.path
    return [path] if path.is_file() else []


def _ever_fewer(nodes: RayNodes) -> Iterator[int]:
    """How many nodes there are: all, then one less each time."""
    for number in range(HERE_NODES, 0, -1):
        yield number
        if number > 1:
            nodes.kill()
            time.sleep(_LEAVING_SECONDS)


def _foretold_rows(costs: Costs) -> Iterator[Row]:
    for examples in EXAMPLES:
        alone = None
        for nodes in NODES:
            told = foretold(costs, Cluster(nodes), examples)
            alone = alone or told.seconds
            yield _row(told, examples, nodes, alone / told.seconds)


def _row(told: Foretold, examples: int, nodes: int, speedup: float | None) -> Row:
    return Row(
        examples,
        nodes,
        round(told.seconds, 1),
        None,
        None,
        round(told.usd, 2),
        None if speedup is None else round(speedup, 1),
        told.bottleneck,
        told.parts,
        told.retried,
        round(told.driver_bytes / 2**30, 1),
        "driver's memory" if told.driver_bytes > HEAD_BYTES else "",
    )


def _told_costs(costs: Costs) -> str:
    lines = []
    for step in costs.steps:
        if isinstance(step, Alone):
            lines.append((step.verb, "driver", "1", f"{step.seconds * 1e6:.2f} µs", f"{step.moved_bytes:,.0f} B"))
        else:
            moved = f"{step.read_bytes / 1e6:.2f} / {step.written_bytes / 1e6:.2f} MB"
            lines.append((step.verb, "nodes", f"{step.examples:,.0f}", f"{step.cpu_seconds:.2f} s", moved))
    title = (
        f"costs: a build of next to nothing {costs.begin_seconds + costs.ready_seconds:.1f} s, of these a process "
        f"until its first part {costs.ready_seconds:.1f} s; handing out a part and hearing back "
        f"{costs.handing_seconds * 1e3:.2f} ms; the driver holds {costs.driver_bytes:.0f} bytes an example"
    )
    return table(title, ("verb", "by", "examples", "CPU", "in / out"), lines)


def _told_here(rows: Sequence[Row]) -> str:
    lines = [
        (
            row.nodes,
            f"{row.predicted:.1f}",
            f"{row.measured:.1f}",
            f"{row.predicted / row.measured:.2f}" if row.measured else "",
            f"{row.cores:.2f}",
            row.parts,
            row.held_up_by,
        )
        for row in rows
    ]
    title = f"the model held against builds of {rows[0].examples:,} examples on nodes of this machine, of one core each"
    return table(title, ("nodes", "predicted s", "measured s", "ratio", "cores", "parts", "held up by"), lines)


def _told_rows(rows: Sequence[Row]) -> str:
    lines = [
        (
            f"{row.examples:,}",
            row.nodes,
            _duration(row.predicted),
            f"{row.usd:,.2f}",
            f"{row.speedup:.1f}",
            row.held_up_by,
            f"{row.parts:,}",
            row.retried,
            f"{row.driver_gib:.1f}",
            row.breaks,
        )
        for row in rows
    ]
    head = ("examples", "nodes", "time", "usd", "speedup", "held up by", "parts", "again", "driver GiB", "breaks")
    title = (
        f"builds foretold, on nodes of {Cluster(1).cores} cores ({Cluster(1).node_usd_hour} USD an hour each, machines "
        f"that run already), driver of {HEAD_BYTES >> 30} GiB, store and build at S3; speedup: over one node"
    )
    return table(title, head, lines)


def _told_limits(costs: Costs) -> str:
    """What breaks first, and from how many nodes on more of them gain little."""
    most = (HEAD_BYTES - costs.begin_bytes) / costs.driver_bytes
    alone = sum(
        max(step.seconds, step.moved_bytes / Cluster(1).node_bytes_second)
        for step in costs.steps
        if isinstance(step, Alone)
    )
    handing = sum(costs.handing_seconds / step.examples for step in costs.steps if not isinstance(step, Alone))
    cores = sum(step.cpu_seconds / step.examples for step in costs.steps if not isinstance(step, Alone))
    passing = sum(step.moved_bytes for step in costs.steps if isinstance(step, Alone))
    return (
        f"what breaks first: the driver's memory, {HEAD_BYTES >> 30} GiB at {most / 1e6:,.0f} million examples\n"
        f"what holds up first: the driver, which takes {1e6 * alone:.1f} µs an example alone and {1e6 * handing:.1f} "
        f"µs to hand out parts, and the parts {1e6 * cores:.0f} µs of a core: with {cores / (alone + handing):.0f} "
        f"cores the driver takes as long as they\n"
        f"what passes through the driver: {passing:,.0f} bytes an example (sources to be digested, the build)"
    )


def _duration(seconds: float) -> str:
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
