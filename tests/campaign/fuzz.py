"""Spoilt inputs by the hundred thousand: each may only end in a right answer or in a sentence.

Each input is drawn from the seed, its target and its number, so that one that fails is made again by these three. An
input that takes too long is stopped by a timer; one that stops the process is known by the number that was begun last.
"""

import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import click

from orca_recipes.catalogue import Catalogue
from orca_recipes.progress import Progress
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.build import Asked, build
from orca_recipes.store.store import Store
from tests.campaign.fuzz_targets import TARGETS
from tests.campaign.fuzz_world import HOME, World
from tests.campaign.trial import table

PATIENCE_SECONDS = 20
"""An input that is not answered by then hangs."""
_BATCH = 500


class Hang(BaseException):
    """An input took too long; no `except Exception` on the way may swallow it."""


@dataclass
class Tally:
    """What became of some inputs of one target; failures are number and trace."""

    inputs: int = 0
    accepted: int = 0
    seconds: float = 0.0
    failures: list[tuple[int, str]] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        self.inputs += other.inputs
        self.accepted += other.accepted
        self.seconds += other.seconds
        self.failures += other.failures


@click.command()
@click.option("--inputs", default=200_000, show_default=True, help="How many, over all targets.")
@click.option("--seed", default=1, show_default=True, help="Decides every input.")
@click.option("--only", type=click.Choice(sorted(TARGETS)), help="This target alone.")
@click.option("--at", type=int, help="With --only: this one input, with its traceback.")
@click.option("--workers", default=2, show_default=True)
def fuzz(inputs: int, seed: int, only: str | None, at: int | None, workers: int) -> None:
    """Feed loaders and readers with spoilt inputs; none may end in a traceback, a hang or a wrong row."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        root = Path(folder)
        make_world(root)
        if only and at is not None:
            click.echo(tried(root, only, seed, at, 1).failures or "answered as it should be")
            return
        chosen = {only: inputs} if only else {name: inputs * share // 100 for name, (_, share) in TARGETS.items()}
        tallies = campaign(root, chosen, seed, workers)
    rows = [
        (
            name,
            f"{t.inputs:,}",
            f"{t.inputs - t.accepted - len(t.failures):,}",
            f"{t.accepted:,}",
            len(t.failures),
            f"{t.seconds:.0f}",
        )
        for name, t in tallies.items()
    ]
    click.echo(table("spoilt inputs", ("target", "inputs", "rejected", "accepted", "failures", "seconds"), rows))
    click.echo(f"in all: {sum(t.inputs for t in tallies.values()):,} inputs, seed {seed}")
    for name, tally in tallies.items():
        for number, trace in tally.failures[:5]:
            click.echo(f"{name} {number} (--only '{name}' --at {number} --seed {seed}):\n{trace}")
    sys.exit(1 if any(tally.failures for tally in tallies.values()) else 0)


def make_world(root: Path) -> None:
    """Build the quickstart, small, as the sound build whose files are spoilt."""
    recipe = root / "quickstart.toml"
    recipe.write_bytes((HOME / "recipes" / "quickstart.toml").read_bytes())
    (root / "quickstart").symlink_to(HOME / "recipes" / "quickstart")
    loaded = load_recipe(recipe, catalogue=Catalogue(), profile=None)
    # Two builds: the small one for its files, and a lock, which only a whole one writes.
    build(Asked(loaded, Store(root / "store"), root / "small", workers=1, limit=12), Progress())
    build(Asked(loaded, Store(root / "store"), root / "whole", workers=1), Progress())


def campaign(root: Path, chosen: dict[str, int], seed: int, workers: int) -> dict[str, Tally]:
    """Try the inputs in batches, several at a time; a batch that ends its process is one failure."""
    tallies = {name: Tally() for name in chosen}
    batches = [
        (name, start, min(_BATCH, count - start)) for name, count in chosen.items() for start in range(0, count, _BATCH)
    ]
    random.Random(seed).shuffle(batches)  # so that slow targets do not stand in line at the end
    while batches:
        done = 0
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            futures = [pool.submit(tried, root, name, seed, start, count) for name, start, count in batches]
            try:
                for (name, _, _), future in zip(batches, futures, strict=True):
                    tallies[name].add(future.result())
                    done += 1
            except BrokenProcessPool:
                name, start, count = batches[done]
                tallies[name].failures.append((start, f"the process ended within the {count} inputs from here"))
                done += 1
        batches = batches[done:]
    return tallies


def tried(root: Path, name: str, seed: int, start: int, count: int) -> Tally:
    """Try some inputs of a target."""
    target, _ = TARGETS[name]
    tally, began, world = Tally(), time.monotonic(), world_of(root)
    for number in range(start, start + count):
        tally.inputs += 1
        try:
            with no_longer_than(PATIENCE_SECONDS):
                tally.accepted += target(world, random.Random(f"{seed}/{name}/{number}"))
        except KeyboardInterrupt:
            raise
        except BaseException:  # panics of Rust are no Exception
            tally.failures.append((number, traceback.format_exc(limit=-6)))
    tally.seconds = time.monotonic() - began
    return tally


@cache
def world_of(root: Path) -> World:
    """The sound build, and a folder of this process's own for inputs."""
    folder = Path(tempfile.mkdtemp(prefix="inputs-", dir=root))
    return World(folder, build=root / "small", lock=root / "quickstart.lock")


@contextmanager
def no_longer_than(seconds: int) -> Iterator[None]:
    """Raises: Hang."""

    def stop(*_: object) -> None:
        raise Hang(f"no answer within {seconds} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
