"""Kill collections at random moments, again and again until one ends, and count at the server what was asked twice.

An answer that is on the disk at a kill must never be asked again nor be lost, the build must have the bytes of an
undisturbed one, and the run that ends must tell at least as many requests that may be billed twice as the server saw.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import click

from orca_recipes.objects.objects import Objects
from orca_recipes.traces.trace_lines import Trace, decode
from orca_recipes.traces.trace_segments import segments
from tests.campaign.asking import written_asking
from tests.campaign.trial import HOME, end_group, promise_of, table
from tests.servers.running import running_apart
from tests.servers.stub import key_of


@dataclass(frozen=True)
class InFolder:
    """Traces of a folder, seen from outside."""

    place: str

    def files(self) -> list[bytes]:
        return [path.read_bytes() for path in segments(Path(self.place) / "segments")]

    def environment(self, host: int) -> dict[str, str]:
        """What tells a host from others: here there is one."""
        return {}


@dataclass(frozen=True)
class AtAddress(InFolder):
    """Traces at an address, collected into by another host after each kill. folder: where the caches of hosts lie."""

    folder: Path

    def files(self) -> list[bytes]:
        objects = Objects.at(self.place)
        return [objects.get(one.key) for one in objects.listed("segments")]

    def environment(self, host: int) -> dict[str, str]:
        return {"ORCA_CACHE": str(self.folder / f"host-{host}"), "ORCA_LEASE_SECONDS": "5"}


@dataclass
class Killed:
    """What killing a collection showed; asked: times by key of the server. told: what may be billed twice, as the run
    that ended says."""

    questions: int
    kills: int = 0
    told: int = 0
    asked: Counter[str] = field(default_factory=Counter)
    again: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @property
    def in_flight_again(self) -> int:
        """Requests that were sent again because they were in flight at a kill."""
        return self.asked.total() - len(self.asked)


@click.command()
@click.option("--questions", default=5000, help="questions of the collection")
@click.option("--seed", default=1, help="decides the moments")
@click.option("--delay", default=0.1, help="seconds that the server takes for an answer")
@click.option("--kills", default=60, help="kill it at most so often")
@click.option("--latest", default=6.0, help="seconds after an answer within which a build is killed")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="write what was found into this file")
def answers(questions: int, seed: int, delay: float, kills: int, latest: float, json_file: Path | None) -> None:
    """Kill a collection of answers at random moments until it is done."""
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        words = ("--delay", str(delay))
        with running_apart(Path(folder), *words) as base_url:
            started = time.monotonic()
            found = killed(Path(folder), base_url, questions, random.Random(seed), most=kills, latest=latest)
            seconds = time.monotonic() - started
    row = [questions, found.kills, found.asked.total(), found.in_flight_again, found.told, found.again.total()]
    head = ("questions", "kills", "requests", "asked twice (server)", "may be billed twice", "durable asked again")
    click.echo(table(f"kill -9 at random moments of a collection, {seconds:.0f} s", head, [row]))
    if json_file is not None:
        told = {"tried": found.kills, "survived": found.kills - len(found.faults), "failed": found.faults}
        json_file.write_text(json.dumps({**told, "rows": [dict(zip(head, row, strict=True))]}), encoding="utf-8")
    for fault in found.faults:
        click.echo(fault)
    click.echo(f"{len(found.faults)} faults" if found.faults else "everything survived")
    sys.exit(1 if found.faults else 0)


def killed(
    folder: Path,
    base_url: str,
    questions: int,
    chance: random.Random,
    *,
    most: int,
    latest: float,
    more: tuple[str, ...] = (),
    traces: InFolder | None = None,
) -> Killed:
    """Kill a build whenever it has collected for a while, at most so often, and let the last one end.

    Args:
        latest: seconds after its first answer within which a build is killed. more: words of the killed command.
        traces: by default in a folder beside the build.
    """
    recipe = written(folder, base_url, questions)
    traces = traces or InFolder(str(folder / "killed" / "traces"))
    found = Killed(questions)
    durable: dict[str, int] = {}
    while found.kills < most:
        process = begun(recipe, folder, "killed", more, traces, found.kills)
        if not _killed_while_collecting(process, traces, chance, latest):
            break
        found.kills += 1
        asked = Counter(asked_at(base_url))
        for key in kept(traces):
            durable.setdefault(key, asked[key])
    else:
        begun(recipe, folder, "killed", more, traces, found.kills).wait()
    found.told = json.loads((folder / "killed" / "told.json").read_bytes())["answers"]["maybe_billed_twice"]
    found.asked = Counter(asked_at(base_url))
    found.again = Counter({key: found.asked[key] - before for key, before in durable.items()})
    final = kept(traces)
    found.faults += _faults(found, durable, final)
    undisturbed = begun(recipe, folder, "undisturbed")
    if undisturbed.wait():
        return Killed(questions, faults=["the undisturbed build failed"])
    if promise_of(folder / "killed" / "out") != promise_of(folder / "undisturbed" / "out"):
        found.faults.append("other bytes than those of an undisturbed build")
    return found


def written(folder: Path, base_url: str, questions: int, concurrency: int = 32) -> Path:
    """The recipe with so many questions."""
    sums = ((f"What is {n} + {n * 7}?", f"{n * 8}") for n in range(questions))
    return written_asking(folder, sums, base_url, f"concurrency = {concurrency}")


def begun(
    recipe: Path, folder: Path, name: str, more: tuple[str, ...] = (), traces: InFolder | None = None, host: int = 0
) -> "subprocess.Popen[bytes]":
    """The build, in a process group of its own; what it says is in two files."""
    here = folder / name
    here.mkdir(exist_ok=True)
    traces = traces or InFolder(str(here / "traces"))
    places = ["--store", here / "store", "--out", here / "out", "--traces", traces.place, "--workers", "1"]
    command = [sys.executable, "-m", "orca_recipes.cli", "build", str(recipe), *map(str, places), "--json", *more]
    environment = {**os.environ, "XDG_CACHE_HOME": str(here / "cache"), **traces.environment(host)}
    with (here / "said.txt").open("ab") as said, (here / "told.json").open("wb") as told:
        return subprocess.Popen(command, cwd=HOME, stdout=told, stderr=said, start_new_session=True, env=environment)


def asked_at(base_url: str) -> dict[str, int]:
    """How often the server was asked each question."""
    with urllib.request.urlopen(base_url.removesuffix("/v1") + "/_asked") as answer:
        found: dict[str, int] = json.loads(answer.read())
    return found


def kept(traces: InFolder) -> set[str]:
    """The questions whose answers are kept, as the server knows them."""
    found = set()
    for data in traces.files():
        for line in data.splitlines(keepends=True):
            trace = decode(line) if line.endswith(b"\n") else None
            if trace is not None:
                found.add(key_of(_body(trace)))
    return found


def _body(trace: Trace) -> dict[str, object]:
    assert trace.question is not None, "an answer was kept without its question"
    messages = [{"role": role, "content": content} for role, content in trace.question.messages]
    return {**trace.question.sampling, "messages": messages}


def _killed_while_collecting(
    process: "subprocess.Popen[bytes]", traces: InFolder, chance: random.Random, latest: float
) -> bool:
    """Kill a build some time after it kept its first answer; False where it ended by itself."""
    size = _size(traces)
    while process.poll() is None and _size(traces) == size:
        time.sleep(0.02)
    ends = time.monotonic() + chance.uniform(0, latest)
    while process.poll() is None and time.monotonic() < ends:
        time.sleep(0.01)
    if process.poll() is not None:
        return False
    end_group(process, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def _size(traces: InFolder) -> int:
    return sum(map(len, traces.files()))


def _faults(found: Killed, durable: dict[str, int], final: set[str]) -> list[str]:
    faults = []
    if found.again.total():
        faults.append(f"{found.again.total()} requests for answers that were on the disk")
    if found.told < found.in_flight_again:
        faults.append(f"{found.told} told of {found.in_flight_again} that the server saw twice")
    if not durable.keys() <= final:
        faults.append(f"{len(durable.keys() - final)} answers were lost")
    if len(final) != found.questions:
        faults.append(f"{len(final)} answers of {found.questions} are kept")
    return faults
