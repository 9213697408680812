"""Kill builds at every rename and flush, at random moments, on full disks and under a clock that runs backwards.

Each time the same command again must end well, with the bytes of an undisturbed build and nothing left lying about.
"""

import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import click

from orca_recipes.shards.checks.verify import verify
from tests.campaign.clock import tried_clocks
from tests.campaign.disks import tried_disks
from tests.campaign.moments import tried_moments
from tests.campaign.traced import Event, events
from tests.campaign.trial import Trial, copied_recipe, promise_of, table


@click.command()
@click.option("--seed", default=1, help="Decides the random moments.")
def kill(seed: int) -> None:
    """Kill builds everywhere, and run the same command again."""
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        root = Path(folder)
        numbers = range(os.cpu_count() or 1)
        trials = [Trial(root / f"small-{n}", copied_recipe("quickstart", root / f"recipe-{n}")) for n in numbers]
        found, small = tried_points(trials), trials[0]
        found += tried_disks(small)
        found += tried_clocks(small)
        large = Trial(root / "large", copied_recipe("niv2", root / "larger recipe"), workers=2)
        found += tried_moments(large, random.Random(seed))
    click.echo(f"{len(found)} faults" if found else "everything survived")
    for fault in found:
        click.echo(fault)
    sys.exit(1 if found else 0)


def tried_points(trials: Sequence[Trial]) -> list[str]:
    """kill -9 before and after each rename and each flush, in several trials at a time; what went wrong."""
    trial = trials[0]
    trial.begin_anew()
    started = time.monotonic()
    trial.run_traced(_log(trial)).check_returncode()
    seconds = time.monotonic() - started
    promised, points = promise_of(trial.out), events(_log(trial), trial.folder)
    free: SimpleQueue[Trial] = SimpleQueue()
    for each in trials:
        free.put(each)

    def killed(point: Event, when: str) -> list[str]:
        mine = free.get()
        try:
            return _killed_at(mine, point, when, promised)
        finally:
            free.put(mine)

    stops = [(point, when) for point in points for when in ("before", "after")]
    with ThreadPoolExecutor(len(trials)) as threads:
        results = list(threads.map(killed, *zip(*stops, strict=True)))
    tried = Counter(_group(point) for point, _ in stops)
    survived = Counter(_group(point) for (point, _), faults in zip(stops, results, strict=True) if not faults)
    distinct = len({(point.kind, point.path) for point in points})
    title = f"kill -9 at {distinct} distinct renames and flushes of a build of {seconds:.1f} s, before and after each"
    click.echo(table(title, ("where", "tried", "survived"), [(name, tried[name], survived[name]) for name in tried]))
    click.echo(f"in all: {tried.total()} tried, {survived.total()} survived\n")
    return [
        f"{when} {point.kind} {point.path}: {fault}"
        for (point, when), faults in zip(stops, results, strict=True)
        for fault in faults
    ]


def _log(trial: Trial) -> Path:
    return trial.folder.with_suffix(".log")


def _killed_at(trial: Trial, point: Event, when: str, promised: dict[str, str]) -> list[str]:
    trial.begin_anew()
    killed = trial.run_traced(_log(trial), f"{point.number}:{when}:SIGKILL")
    if killed.returncode != -9:
        return [f"it was not killed: exit status {killed.returncode}, {killed.stderr}"]
    if trial.out.exists() and verify(trial.out).findings:
        return ["a build that is not whole lay in its place"]
    again = trial.run()
    if again.returncode:
        return [f"the same command again failed: {again.stderr}"]
    return trial.faults(promised)


def _group(point: Event) -> str:
    """What a rename or flush is for."""
    path = Path(point.path)
    name = path.name.lstrip(".").removeprefix("*.").removesuffix(".*")
    if path.parts[:2] == ("store", "stages"):
        what = "file of a part"
        if len(path.parts) < 4:
            what = "folder of a stage"
        elif name == "receipt.json":
            what = "receipt of a stage"
        elif name.endswith(".json") and not name.startswith("tokenizer"):
            what = "receipt of a part"
    elif point.path in ("out", "."):
        what = "build, put in place"
    elif path.parts[0] == "..":
        what = "lock of the recipe"
    else:
        what = "claims and records of builds" if path.parts[0] == "store" else "file or folder of a build"
    return f"{point.kind}: {what}"
