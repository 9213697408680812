"""A larger build with two workers, ended at random moments in each way in which builds end."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import click

from orca_recipes.shards.checks.verify import verify
from tests.campaign.trial import Trial, end_group, promise_of, table

MOMENTS = 30


def tried_moments(trial: Trial, chance: random.Random) -> list[str]:
    """End builds at random moments; what went wrong."""
    trial.begin_anew()
    started = time.monotonic()
    trial.run().check_returncode()
    seconds = time.monotonic() - started
    promised = promise_of(trial.out)
    tried: Counter[str] = Counter()
    survived: Counter[str] = Counter()
    found = []
    for number in range(MOMENTS):
        way = list(_WAYS)[number % len(_WAYS)]
        moment = chance.uniform(0.2, 0.95) * seconds
        trial.begin_anew()
        fault = _ended(trial, way, moment, promised)
        tried[way] += 1
        survived[way] += not fault
        found += [f"{way} after {moment:.1f} s: {fault}"] if fault else []
    title = f"ends at {MOMENTS} random moments of a build of {seconds:.1f} s with two workers"
    click.echo(table(title, ("how", "tried", "survived"), [(name, tried[name], survived[name]) for name in tried]))
    click.echo(f"in all: {tried.total()} tried, {survived.total()} survived\n")
    return found


def _ended(trial: Trial, way: str, moment: float, promised: dict[str, str]) -> str:
    process = trial.begin()
    time.sleep(moment)
    _WAYS[way](process)
    told, _ = process.communicate()
    if "Traceback" in told:
        return f"it ended with a traceback: {told}"
    if trial.out.exists() and verify(trial.out).findings:
        return "a build that is not whole lay in its place"
    again = trial.run()
    if again.returncode:
        return f"the same command again failed: {again.stderr}"
    return "; ".join(trial.faults(promised))


def _kill_the_build_alone(process: "Popen[str]") -> None:
    process.kill()


def _kill_a_worker(process: "Popen[str]") -> None:
    forks = [pid for pid in _children(process.pid) if _command(pid) == _command(process.pid)]
    builder = next(iter(forks), process.pid)  # the process that was started watches its fork, which builds
    workers = [pid for pid in _children(builder) if "resource_tracker" not in _command(pid)]
    os.kill(workers[0] if workers else builder, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")


_WAYS: dict[str, Callable[["Popen[str]"], None]] = {
    "kill -9 of the build and its workers": lambda process: end_group(process, signal.SIGKILL),
    "kill -9 of the build alone": _kill_the_build_alone,
    "kill -9 of a worker": _kill_a_worker,
    "Ctrl-C": lambda process: end_group(process, signal.SIGINT),
    "SIGTERM": lambda process: process.terminate(),
}
