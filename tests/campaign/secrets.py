"""Plant a key, have a loopback server say it again in every spelling and place, and search all that was written.

Answers are collected one by one, through processes, and in batches, and a collection is killed on its way; then each
command that writes of answers writes. Searched are the stores, traces, notes, indexes, locks, builds, reports, cards,
exports and archives, and all that the commands said. The search undoes spellings; the program looks for them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from tests.campaign.asking import written_asking
from tests.campaign.met import Met, tell
from tests.campaign.searching import holders
from tests.campaign.trial import HOME, end_group
from tests.servers.echoes import PLACES, Echoes, questions, spellings
from tests.servers.running import running

KEY = "sk-planted+7Rk9/2wQz=hV5tbX0mGcYp3N"
_VARIABLE = "PLANTED_KEY"


@click.command()
@click.option("--spelt", default=0, help="Only so many spellings; 0: all.")
@click.option("--short", is_flag=True, help="One spelling in each place, answered one by one and built.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write what was tried into this file.")
def secrets(spelt: int, short: bool, json_file: Path | None) -> None:
    """Echo a planted key in every spelling, and search all that was written."""
    with tempfile.TemporaryDirectory(prefix="secrets-") as folder:
        found = tried_short(Path(folder)) if short else tried(Path(folder), spelt)
    tell(found, ("a planted key in every spelling: what was searched", "collected", "written"), json_file)


def tried(root: Path, most: int = 0) -> dict[str, Met]:
    """Collect in each way, write all there is to write, and search it; tried: echoes, found: files searched."""
    found: dict[str, Met] = {"the search itself": _searched(root / "control")}
    asked = questions(KEY)
    chosen = [text for number, text in enumerate(asked) if not most or number % len(spellings(KEY)) < most]
    ways = {
        "one by one": (),
        "through processes": ("--set", "teachers.stub.processes=2"),
        "in batches": ("--set", 'teachers.stub.mode="batch"'),
    }
    for name, more in ways.items():
        place = root / name.replace(" ", "-")
        place.mkdir(parents=True)
        with running(stub := Echoes(key=KEY)) as address:
            desk = _Desk(place, address, chosen)
            if name == "one by one":
                stub.delay_seconds = 0.2
                desk.killed()
                stub.delay_seconds = 0.0
                desk.refused()
            desk.collected(more)
            if name == "one by one":
                desk.written()
        found[name] = _judged(place, stub, chosen)
        click.echo(f"{name}: {found[name].told()}", err=True)
    return found


def tried_short(root: Path) -> dict[str, Met]:
    """Have each place say one spelling, collect the answers one by one, and build."""
    spelt = len(spellings(KEY))
    # Steps of more than one, so that places meet spellings of several sorts.
    chosen = [questions(KEY)[place * spelt + place * 5 % spelt] for place in range(len(PLACES))]
    place = root / "one-by-one"
    place.mkdir(parents=True)
    with running(stub := Echoes(key=KEY)) as address:
        desk = _Desk(place, address, chosen)
        desk.collected(())
        desk.built()
    return {"the search itself": _searched(root / "control"), "one by one": _judged(place, stub, chosen)}


def _searched(place: Path) -> Met:
    """See that each spelling is found where it is not masked."""
    place.mkdir(parents=True)
    told = Met()
    for number, (how, spelt) in enumerate(spellings(KEY).items()):
        told.tried += 1
        (place / f"{number}.txt").write_text(f"a word, {spelt}, another", encoding="utf-8")
        if holders(place, KEY) == [f"{number}.txt "]:
            told.found += 1
        else:
            told.failed.append(f"a key {how} is not found by the search")
        (place / f"{number}.txt").unlink()
    return told


def _judged(place: Path, stub: Echoes, chosen: Sequence[str]) -> Met:
    told = Met(tried=len(stub.said), found=sum(path.is_file() for path in place.rglob("*")))
    told.failed += [f"{place.name}: {where}" for where in holders(place, KEY)]
    if place.name == "one-by-one" and len(stub.said) != len(chosen):
        told.failed.append(f"{len(stub.said)} of {len(chosen)} echoes were asked for")
    counted = Counter(where for where, _ in stub.said)
    missing = [where for where in PLACES if not counted[where]]
    return Met(
        told.tried, told.found, [], told.failed + [f"{place.name}: nothing was said in {one}" for one in missing]
    )


class _Desk:
    """A recipe of questions, and a folder for all that commands write and say."""

    def __init__(self, place: Path, address: str, asked: Sequence[str]) -> None:
        self._place, self._numbers = place, 0
        questions = ((text, "x") for text in asked)
        self._recipe = written_asking(place, questions, address, f'key_env = "{_VARIABLE}"')

    def collected(self, more: Sequence[str]) -> None:
        """Collect to the end. Raises: AssertionError where that fails."""
        self._well(["collect", self._recipe, *self._places(), *more])

    def killed(self) -> None:
        """Kill a collection while answers are in flight."""
        process = self._begun("collect", self._recipe, *self._places())
        sent = self._place / "traces" / "sent"
        while process.poll() is None and not (sent.exists() and any(sent.iterdir())):
            time.sleep(0.02)
        assert process.poll() is None, "it ended before it was killed"
        end_group(process, signal.SIGKILL)
        process.wait()

    def refused(self) -> None:
        """Have the key refused, with the key in the server's words."""
        assert self._run("collect", self._recipe, *self._places(), "--traceback", key=f"{KEY}x") == 2

    def written(self) -> None:
        """Run each command that writes or prints of answers. Raises: AssertionError where one fails."""
        self._well(["plan", self._recipe, *self._places(), "--json"])
        self.built()
        out, traces = self._place / "out", ["--traces", self._place / "traces"]
        for words in (
            ["verify", out, "--json"],
            ["show", out, "--json"],
            ["explain", out, "--json", "--row", "0", "--at", "1"],
            ["report", out, "-o", self._place / "report.html"],
            ["card", out, "-o", self._place / "card.md"],
            ["export", out, "--to", "messages", "--out", self._place / "messages"],
            ["export", out, "--to", "hf", "--out", self._place / "hf"],
            ["archive", self._recipe, *self._places(), "-o", self._place / "echoes.tar"],
            ["traces", "stats", *traces],
            ["traces", "export", self._place / "traces.jsonl", *traces],
            ["traces", "export", self._place / "traces.parquet", *traces],
        ):
            self._well(words)

    def built(self) -> None:
        """Build. Raises: AssertionError where that fails."""
        self._well(["build", self._recipe, *self._places(), "--out", self._place / "out", "--workers", "2"])

    def _well(self, words: Sequence[object]) -> None:
        status = self._run(*words)
        said = self._place / f"said-{self._numbers}.txt"
        assert status == 0, f"{' '.join(map(str, words))}: {said.read_text()}"

    def _places(self) -> list[object]:
        return ["--store", self._place / "store", "--traces", self._place / "traces"]

    def _run(self, *words: object, key: str = KEY) -> int:
        return self._begun(*words, key=key).wait()

    def _begun(self, *words: object, key: str = KEY) -> subprocess.Popen[str]:
        self._numbers += 1
        homes = {name: str(self._place / "user") for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "ORCA_CONFIG")}
        environment = {**os.environ, **homes, _VARIABLE: key}
        command = [sys.executable, "-m", "orca_recipes.cli", *map(str, words)]
        with (self._place / f"said-{self._numbers}.txt").open("w") as said:
            return subprocess.Popen(
                command, cwd=HOME, stdout=said, stderr=said, text=True, start_new_session=True, env=environment
            )
