"""Kill nodes of a Ray cluster, the command, leases and the object store, within each verb of a build.

A build that loses a node, or whose store fails for a while, must end well by itself; one whose command was killed must
end well when the same command is given again, on another host where the store lies at an address. Each time with the
bytes of an undisturbed build, with nothing half-published, and without asking again for an answer that is kept.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import click

from tests.campaign.answers import AtAddress as AnswersAtAddress
from tests.campaign.answers import killed as killed_collections
from tests.campaign.ray_nodes import RayNodes
from tests.campaign.sites import AtAddress, OnDisk, reaching
from tests.campaign.trial import HOME, copied_recipe, end_group, table
from tests.servers.object_server import ObjectServer
from tests.servers.running import running_apart

_LOOK_SECONDS = 0.002
_NODES = 3
_BEFORE_PARTS = ("tokenizer", "template")
"""Verbs whose stages are made while pinning, before the cluster has a part."""
_ON_NODES = ("read", "converse", "tokenize", "write")
"""Verbs whose parts go to nodes."""
_LEASE_SECONDS = 2
_DOWN_SECONDS = 3
_FAILING_SHARE = 0.05
_OTHERS = {"quickstart": "", "orca-1": "sample", "orca-2": "sample"}
"""Recipes that are built once on the cluster, and their profiles."""
_QUESTIONS, _ANSWER_SECONDS, _COLLECTIONS_KILLED, _KILLED_WITHIN_SECONDS = 600, 0.5, 3, 2.5
"""Collecting takes longer than all kills wait: what may be billed twice is told once, by the run that ends it."""


@dataclass(frozen=True)
class Kill:
    """What happened to a build while a stage of a verb was being made, and what became of the build.

    Attributes:
        store: where the store and the build lay. was_within: whether the stage was unfinished just afterwards.
        half_published: what lay there that should not, in sentences.
        seconds: from the begin of the build to its end, its repetition included. retried: parts that ran again.
        told: what else there is to tell.
    """

    what: str
    store: str
    verb: str
    was_within: bool
    digest_equal: bool
    half_published: tuple[str, ...]
    seconds: float
    retried: int = 0
    told: str = ""

    @property
    def is_survived(self) -> bool:
        return self.digest_equal and not self.half_published


@dataclass
class _World:
    """What trials need: the cluster, the object store, the builds, and what an undisturbed build gives."""

    nodes: RayNodes
    server: ObjectServer
    disk: OnDisk
    address: AtAddress
    promised: Mapping[str, str]
    verbs: Sequence[str] = field(default_factory=tuple)


_Trial = Callable[[_World], Kill]


@click.command()
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write the rows here.")
@click.option("--recipe", default="niv2", show_default=True, help="One of recipes/.")
@click.option("--rounds", default=1, show_default=True, help="How often each is tried.")
@click.option("--verb", "verbs", multiple=True, help="Trials within these verbs alone.")
@click.option("--only", multiple=True, help="Trials whose name holds this alone.")
def cluster(file: Path | None, recipe: str, rounds: int, verbs: tuple[str, ...], only: tuple[str, ...]) -> None:
    """Kill nodes, commands, leases and the object store within each verb, and compare what is built."""
    rows: list[Kill] = []
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder, ExitStack() as stack:
        world = _world(Path(folder), recipe, stack)
        for what, verb, trial in list(_trials(world)) * rounds:
            if (not verbs or verb in verbs) and (not only or any(word in what for word in only)):
                rows.append(trial(world))
                click.echo(json.dumps(asdict(rows[-1])), err=True)
                _keep(rows, file)
        if not verbs and (not only or "answers" in only):
            rows += _collections_killed(Path(folder), world)
        if not verbs and (not only or "undisturbed" in only):
            rows += _undisturbed(Path(folder), world)
        if world.nodes.failed_starts:
            click.echo(f"{world.nodes.failed_starts} starts of Ray nodes failed, and were tried again", err=True)
    _keep(rows, file)
    _tell(rows)
    sys.exit(0 if all(row.is_survived for row in rows) else 1)


def _world(root: Path, name: str, stack: ExitStack) -> _World:
    """Build undisturbed on this machine alone, then begin an object store and a cluster that reaches it."""
    recipe = copied_recipe(name, root / "recipe")
    alone = OnDisk(root / "alone", recipe, workers=2)
    alone.begin_anew()
    alone.run().check_returncode()
    server = stack.enter_context(ObjectServer())
    stack.enter_context(reaching(server.environment))
    nodes = stack.enter_context(RayNodes(_NODES))
    more = ("--set", "engine.kind=ray", "--set", f"engine.address={nodes.address}")
    lease = {"ORCA_LEASE_SECONDS": str(_LEASE_SECONDS)}
    address = AtAddress(root / "shared", recipe, 2, more, lease, f"s3://{server.bucket}/trial").with_cache()
    disk = OnDisk(root / "trial", recipe, 2, more)
    return _World(nodes, server, disk, address, alone.promise(), _verbs(alone))


def _verbs(trial: OnDisk) -> list[str]:
    """The verbs of a recipe, in the order of the plan."""
    command = [sys.executable, "-m", "orca_recipes.cli", "plan", str(trial.recipe), "--json"]
    told = subprocess.run(
        [*command, "--store", str(trial.folder / "store")], capture_output=True, text=True, check=True
    )
    return list(dict.fromkeys(stage["name"].split(" ")[0] for stage in json.loads(told.stdout)["stages"]))


def _trials(world: _World) -> Iterator[tuple[str, str, _Trial]]:
    """What happens, the verb that it happens within, and how."""
    for verb in world.verbs:
        if verb not in _BEFORE_PARTS:
            yield "node", verb, _within(verb, _node_killed, at_address=False)
        yield "command", verb, _within(verb, _command_killed, at_address=False)
        yield "command s3", verb, _within(verb, _command_killed, at_address=True)
        if verb in _ON_NODES:
            yield "node s3", verb, _within(verb, _node_killed, at_address=True)
            yield "server", verb, _within(verb, _server_restarted, at_address=True)
    for verb in ("read", "tokenize"):
        yield "lease", verb, _within(verb, _lease_lost, at_address=True)
    yield "requests", "", _requests_failed
    yield "two", "", _two_at_once


def _within(
    verb: str, disturb: Callable[[_World, OnDisk, subprocess.Popen[str]], _Outcome], *, at_address: bool
) -> _Trial:
    """Begin a build and disturb it when a stage of the verb has been begun."""

    def tried(world: _World) -> Kill:
        trial: OnDisk = world.address if at_address else world.disk
        trial.begin_anew()
        began = time.monotonic()
        process = trial.begin()
        while process.poll() is None and not trial.is_unfinished(verb):
            time.sleep(_LOOK_SECONDS)
        outcome = disturb(world, trial, process)
        return _judged(world, trial, verb, outcome, time.monotonic() - began)

    return tried


@dataclass
class _Outcome:
    """What was done and what was seen; sites: whose builds are to be held against the undisturbed one."""

    what: str
    was_within: bool
    faults: list[str]
    retried: int = 0
    told: str = ""


def _node_killed(world: _World, trial: OnDisk, process: subprocess.Popen[str]) -> _Outcome:
    was_within = process.poll() is None
    world.nodes.kill()
    told, _ = process.communicate()
    world.nodes.add()
    faults = [f"the build failed: {told}"] if process.returncode else []
    retried = sum(line.endswith("it runs again") for line in told.splitlines())
    return _Outcome("node", was_within, faults, retried)


def _command_killed(_: _World, trial: OnDisk, process: subprocess.Popen[str]) -> _Outcome:
    """The same command again, on another host where there may be another."""
    was_within = process.poll() is None
    end_group(process, signal.SIGKILL) if was_within else None
    process.communicate()
    faults = list(trial.half_published())
    again = trial.elsewhere().run()
    faults += [f"the same command again failed: {again.stderr}"] if again.returncode else []
    return _Outcome("command", was_within, faults)


def _server_restarted(world: _World, _: OnDisk, process: subprocess.Popen[str]) -> _Outcome:
    """The server is gone for some seconds, with all connections."""
    was_within = process.poll() is None
    world.server.go_down()
    time.sleep(_DOWN_SECONDS)
    world.server.come_up()
    told, _told = process.communicate()
    return _Outcome("S3 server restarted", was_within, [f"the build failed: {told}"] if process.returncode else [])


def _lease_lost(_: _World, trial: OnDisk, process: subprocess.Popen[str]) -> _Outcome:
    """A builder sleeps past its lease while another takes its work over, then wakes and ends, too."""
    was_within = process.poll() is None
    process.send_signal(signal.SIGSTOP)
    second = trial.elsewhere().begin()
    try:
        # The other needs the claim of the sleeper: it waits for the lease to end.
        said, _said = second.communicate()
    finally:
        process.send_signal(signal.SIGCONT)
    told, _told = process.communicate()
    faults = [f"who took over failed: {said}"] if second.returncode else []
    faults += [f"who woke failed: {told}"] if process.returncode else []
    return _Outcome("lease expired, its builder woke", was_within, faults)


def _requests_failed(world: _World) -> Kill:
    """One request of twenty fails, in four ways, from the begin to the end."""
    trial = world.address
    trial.begin_anew()
    began, before = time.monotonic(), world.server.fail(_FAILING_SHARE)
    try:
        done = trial.run()
    finally:
        failed = world.server.fail(0) - before
    faults = [f"the build failed: {done.stderr}"] if done.returncode else []
    outcome = _Outcome("1 of 20 requests failed", True, faults, told=f"{failed} requests failed")
    return _judged(world, trial, "all", outcome, time.monotonic() - began)


def _two_at_once(world: _World) -> Kill:
    """Two hosts build at once over one store and into one place."""
    trial = world.address
    trial.begin_anew()
    began = time.monotonic()
    builds = [each.begin() for each in (trial, trial.elsewhere())]
    said = [process.communicate()[0] for process in builds]
    faults = [f"a build failed: {told}" for told, process in zip(said, builds, strict=True) if process.returncode]
    outcome = _Outcome("two builders at once", True, faults)
    return _judged(world, trial, "all", outcome, time.monotonic() - began)


def _judged(world: _World, trial: OnDisk, verb: str, outcome: _Outcome, seconds: float) -> Kill:
    """Hold what was built against the undisturbed build."""
    failed = any("failed" in fault for fault in outcome.faults)
    equal = not failed and trial.promise() == world.promised
    half = (*outcome.faults, *(() if failed else (*trial.half_published(), *trial.left_over())))
    store = "S3" if isinstance(trial, AtAddress) else "folder"
    return Kill(
        outcome.what,
        store,
        verb,
        outcome.was_within,
        equal,
        tuple(dict.fromkeys(half)),
        round(seconds, 1),
        outcome.retried,
        outcome.told,
    )


def _collections_killed(folder: Path, world: _World) -> Iterator[Kill]:
    """Kill collections of answers, whose build goes to the cluster, into a folder and into an address, there on another
    host each time."""
    yield _collection_killed(folder / "answers", world, None)
    place = folder / "answers-s3"
    yield _collection_killed(place, world, AnswersAtAddress(f"s3://{world.server.bucket}/traces", place))


def _collection_killed(place: Path, world: _World, traces: AnswersAtAddress | None) -> Kill:
    """Kill collections of answers; the server counts what it was asked."""
    place.mkdir()
    began = time.monotonic()
    with running_apart(place, "--delay", str(_ANSWER_SECONDS)) as base_url:
        found = killed_collections(
            place,
            base_url,
            _QUESTIONS,
            random.Random(1),
            most=_COLLECTIONS_KILLED,
            latest=_KILLED_WITHIN_SECONDS,
            more=world.disk.more,
            traces=traces,
        )
    told = (
        f"{found.kills} kills; {found.asked.total()} requests for {_QUESTIONS} questions, {found.in_flight_again} "
        f"asked twice, {found.told} told as perhaps billed twice; kept answers asked again: {found.again.total()}"
    )
    within, seconds = found.kills > 0, round(time.monotonic() - began, 1)
    store = "folder" if traces is None else "S3"
    return Kill("command", store, "answer", within, not found.faults, tuple(found.faults), seconds, told=told)


def _undisturbed(folder: Path, world: _World) -> Iterator[Kill]:
    """Other recipes on the cluster, with nothing that disturbs them, against this machine alone."""
    place = folder / "others"
    shutil.copytree(HOME / "recipes", place)
    for name, profile in _OTHERS.items():
        recipe, words = place / f"{name}.toml", ("--profile", profile) if profile else ()
        alone = OnDisk(folder / f"alone-{name}", recipe, 1, words)
        alone.begin_anew()
        alone.run().check_returncode()
        promised = alone.promise()
        for trial in (world.disk, world.address):
            other = replace(trial, recipe=recipe, more=(*trial.more, *words))
            other.begin_anew()
            began, done = time.monotonic(), other.run()
            faults = [f"the build failed: {done.stderr}"] if done.returncode else []
            outcome = _Outcome("undisturbed", True, faults, told=name)
            yield _judged(replace(world, promised=promised), other, "all", outcome, time.monotonic() - began)


def _keep(rows: Sequence[Kill], file: Path | None) -> None:
    """Write the rows that there are, after each trial: all of them take hours."""
    if file is not None:
        file.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


def _tell(rows: Sequence[Kill]) -> None:
    lines = [
        (
            row.what,
            row.store,
            row.verb,
            "yes" if row.was_within else "no",
            "yes" if row.digest_equal else "NO",
            "; ".join(row.half_published) or "nothing",
            row.retried,
            row.seconds,
            row.told,
        )
        for row in rows
    ]
    head = ("what", "store", "within", "met", "equal", "half published", "parts again", "seconds", "")
    click.echo(table(f"what builds on {_NODES} nodes survive", head, lines))
    click.echo(f"in all: {len(rows)} tried, {sum(row.is_survived for row in rows)} survived")
    for row in rows:
        if not row.is_survived:
            click.echo(f"{row.what}, {row.store}, {row.verb}: {os.linesep.join(row.half_published) or 'other bytes'}")
