"""Builds on machines that fail: memory, descriptors, disks, mounts, clocks, slow and failing file systems.

Each trial runs a command on such a machine: it may end well, or with a sentence, status 1 or 2. Then the same command
runs on a machine that is well again, and must give the bytes of an undisturbed build.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from tests.campaign.disks import small_disk
from tests.campaign.failing import FAULTS
from tests.campaign.met import Met, tell
from tests.campaign.trial import HOME, promise_of

ROWS = 400
PATIENCE_SECONDS = 300

RECIPE = """\
name = "sums"
[collections.sums]
kind = "files"
path = "sums.jsonl"
[tokenizer]
kind = "hf"
path = "tokenizer.json"
[template]
kind = "chatml"
[packing]
row_tokens = 512
[output]
shard_tokens = 4096
"""


@dataclass
class Machine:
    """A recipe with its data in a folder, and a store, a build and a cache beside it."""

    root: Path

    @property
    def folder(self) -> Path:
        return self.root / "here"

    @property
    def recipe(self) -> Path:
        return self.folder / "recipe" / "sums.toml"

    @property
    def out(self) -> Path:
        return self.folder / "work" / "out"

    def begin(self) -> None:
        """Lay out the recipe alone."""
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "recipe").mkdir(parents=True)
        (self.folder / "work").mkdir()
        rows = [{"question": f"What is {n} + {n * 3}?", "answer": f"{n * 4}"} for n in range(ROWS)]
        (self.folder / "recipe" / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        shutil.copyfile(HOME / "recipes" / "quickstart" / "tokenizer.json", self.folder / "recipe" / "tokenizer.json")
        self.recipe.write_text(RECIPE)

    def words(self, *more: str) -> list[str]:
        places = ["--store", str(self.folder / "work" / "store"), "--out", str(self.out), "--workers", "1"]
        return ["build", str(self.recipe), *places, *more]

    def run(
        self,
        words: list[str],
        *,
        module: tuple[str, ...] = ("orca_recipes.cli",),
        limit: Callable[[], None] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """A command, under a limit of the process where one is given."""
        environment = {**os.environ, "XDG_CACHE_HOME": str(self.root / "cache")}
        command = [sys.executable, "-P", "-m", *module, *words]
        options = {"capture_output": True, "text": True, "timeout": PATIENCE_SECONDS, "env": environment}
        environment["PYTHONPATH"] = str(HOME)
        return subprocess.run(command, cwd=self.folder, preexec_fn=limit, **options)  # type: ignore[call-overload,no-any-return]


Trial = Callable[[Machine, random.Random], "subprocess.CompletedProcess[str]"]


def _limited(
    what: int, most: Callable[[random.Random], int], machine: Machine, chance: random.Random
) -> subprocess.CompletedProcess[str]:
    number = most(chance)
    return machine.run(machine.words(), limit=lambda: resource.setrlimit(what, (number, number)))


def _failing(what: str, machine: Machine, chance: random.Random) -> subprocess.CompletedProcess[str]:
    module = ("tests.campaign.failing", str(chance.random()), what)
    return machine.run(machine.words(), module=module)


def _small_disk(machine: Machine, chance: random.Random) -> subprocess.CompletedProcess[str]:
    """A small file system, where mounting is allowed; what was written on it goes with it."""
    with ExitStack() as stack:
        try:
            stack.enter_context(small_disk(machine.folder / "work", chance.randrange(4096, 3_000_000)))
        except PermissionError:
            return _limited(resource.RLIMIT_FSIZE, lambda chance: chance.randrange(1, 300_000), machine, chance)
        return machine.run(machine.words())


def _read_only(machine: Machine, chance: random.Random) -> subprocess.CompletedProcess[str]:
    """A folder that may not be written, which for the superuser is a file in its place."""
    place = machine.folder / chance.choice(["work/store", "work/out", "recipe/sums.lock", "work/store/stages"])
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("in the way")
    done = machine.run(machine.words())
    place.unlink(missing_ok=True) if place.is_file() else None
    return done


def _replaced(machine: Machine, chance: random.Random) -> subprocess.CompletedProcess[str]:
    """A file that is replaced while a build reads it, and put back."""
    path = machine.folder / "recipe" / chance.choice(["sums.jsonl", "tokenizer.json", "sums.toml"])
    sound = path.read_bytes()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "orca_recipes.cli", *machine.words()],
        cwd=machine.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HOME), "XDG_CACHE_HOME": str(machine.root / "cache")},
    )
    time.sleep(chance.uniform(0.1, 1.5))
    aside = path.with_suffix(".aside")
    aside.write_bytes(sound[: chance.randrange(len(sound))])
    aside.replace(path)
    said, told = process.communicate(timeout=PATIENCE_SECONDS)
    aside.write_bytes(sound)
    aside.replace(path)
    return subprocess.CompletedProcess(process.args, process.returncode, said, told)


TRIALS: dict[str, Trial] = {
    "memory (ulimit -v)": partial(_limited, resource.RLIMIT_AS, lambda chance: chance.randrange(150, 3000) << 20),
    "descriptors": partial(_limited, resource.RLIMIT_NOFILE, lambda chance: chance.randrange(4, 48)),
    "size of files": partial(_limited, resource.RLIMIT_FSIZE, lambda chance: chance.randrange(0, 300_000)),
    "a small disk": _small_disk,
    "a folder that cannot be": _read_only,
    "a file that is replaced": _replaced,
    **{what: partial(_failing, what) for what in FAULTS},
}


@click.command()
@click.option("--count", default=100, show_default=True, help="How many trials.")
@click.option("--first", default=0, show_default=True, help="The number of the first one.")
@click.option("--seed", default=1, show_default=True, help="Decides every trial.")
@click.option("--seconds", type=float, help="Stop after so many seconds.")
@click.option("--only", type=click.Choice(sorted(TRIALS)), help="Trials of this kind alone.")
@click.option("--at", type=int, help="This one trial.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write what was tried into this file.")
def faults(
    count: int,
    first: int,
    seed: int,
    seconds: float | None,
    only: str | None,
    at: int | None,
    json_file: Path | None,
) -> None:
    """Build on machines that fail, then on sound ones: a sentence first, the promised bytes then."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        numbers = range(first, first + count) if at is None else range(at, at + 1)
        by_kind = tried(Path(folder), numbers, seed, only=only, seconds=seconds)
    tell(by_kind, ("machines that fail", "fault", "stopped the build"), json_file)


def tried(
    root: Path, numbers: range, seed: int, *, only: str | None = None, seconds: float | None = None
) -> dict[str, Met]:
    """Try faults one after the other, each kind in its turn, until the time is up."""
    by_kind = {name: Met() for name in TRIALS}
    ends = None if seconds is None else time.monotonic() + seconds
    machine = Machine(root)
    machine.begin()
    machine.run(machine.words()).check_returncode()
    promised = promise_of(machine.out)
    names = list(TRIALS)
    for number in numbers:
        if ends is not None and time.monotonic() > ends:
            break
        name = only or names[number % len(names)]
        machine.begin()
        chance = random.Random(f"{seed}/{number}")
        by_kind[name].tried += 1
        if fault := _try(machine, TRIALS[name], chance, promised, by_kind[name]):
            by_kind[name].failed.append(f"{name} (--only '{name}' --at {number} --seed {seed}): {fault}")
            click.echo(by_kind[name].failed[-1], err=True)  # at once: a run may be ended before its table
    return by_kind


def _try(machine: Machine, trial: Trial, chance: random.Random, promised: dict[str, str], told: Met) -> str:
    """What went wrong, "" for nothing."""
    try:
        first = trial(machine, chance)
    except subprocess.TimeoutExpired:
        return "it did not end"
    told.found += first.returncode != 0
    said = first.stderr.strip()
    if first.returncode not in (0, 1, 2):
        return f"status {first.returncode}: {said[-400:]}"
    if "Traceback" in said or "orca-recipe failed" in said or (first.returncode and not said):
        return f"no sentence: {said[-400:]}"
    again = machine.run(machine.words())
    if again.returncode:
        return f"on a sound machine: {again.stderr.strip()[-400:]}"
    return "" if promise_of(machine.out) == promised else "other bytes on a sound machine"
