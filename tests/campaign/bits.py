"""Damage builds in every way, in every kind of file, and ask `verify` to find and name it."""

import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from orca_recipes.shards.checks.verify import verify
from orca_recipes.shards.manifest import NAME, Contents, Made, inspect_manifest, sealed, write_manifest
from tests.campaign.trial import Trial, copied_recipe, table

FLIPS = 120
"""Bits flipped in each file."""


@click.command()
@click.option("--seed", default=1, help="Decides the places.")
def bits(seed: int) -> None:
    """Damage a build in every way; verify must find each and name the file."""
    chance = random.Random(seed)
    tried: Counter[str] = Counter()
    found: Counter[str] = Counter()
    missed = []
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        trial = Trial(Path(folder) / "trial", copied_recipe("quickstart", Path(folder) / "recipe"))
        trial.begin_anew()
        trial.run().check_returncode()
        for what, where, named in damages(trial.out, chance):
            tried[what] += 1
            told = {finding.file for finding in verify(trial.out).findings}
            if told and named <= told:
                found[what] += 1
            else:
                missed.append(f"{what}: {where}: verify named {sorted(told) or 'nothing'}")
        if verify(trial.out).findings:
            missed.append("the build was not put back as it was")
    click.echo(
        table("damage to a build", ("what", "tried", "found and named"), [(n, tried[n], found[n]) for n in tried])
    )
    click.echo(f"in all: {tried.total()} tried, {found.total()} found and named")
    for line in missed:
        click.echo(line)
    sys.exit(1 if missed else 0)


def damages(build: Path, chance: random.Random) -> Iterator[tuple[str, str, set[str]]]:
    """Damage a build in one way after the other, each undone before the next.

    Returns: what, where, and the files that verify must name; where there are none, it may name any.
    """
    yield from _flips(build, chance)
    yield from _other_ends(build, chance)
    yield from _swaps(build)
    yield from _shards_too_many_or_few(build)
    yield from _edits(build, chance)


def _flips(build: Path, chance: random.Random) -> Iterator[tuple[str, str, set[str]]]:
    for path in _files(build):
        sound = path.read_bytes()
        # The first and last bits of a file, where headers and footers are, and places anywhere between.
        places = [0, 7, len(sound) * 8 - 1, *(chance.randrange(len(sound) * 8) for _ in range(FLIPS))]
        for place in places:
            broken = bytearray(sound)
            broken[place // 8] ^= 1 << place % 8
            path.write_bytes(broken)
            name = path.relative_to(build).as_posix()
            yield f"a bit of {_kind(path)}", f"{name}, bit {place}", {name}
        path.write_bytes(sound)


def _other_ends(build: Path, chance: random.Random) -> Iterator[tuple[str, str, set[str]]]:
    for path in _files(build):
        sound, name = path.read_bytes(), path.relative_to(build).as_posix()
        for what, data in (
            ("a file cut short", sound[: chance.randrange(len(sound))]),
            ("a file with a byte too many", sound + b"\0"),
            ("an empty file", b""),
        ):
            path.write_bytes(data)
            yield what, name, {name}
        path.unlink()
        yield "a missing file", name, {name}
        path.mkdir()
        yield "a folder in place of a file", name, {name}
        path.rmdir()
        path.write_bytes(sound)


def _swaps(build: Path) -> Iterator[tuple[str, str, set[str]]]:
    for suffixes in (
        (".bin", ".idx"),
        (".bin",),
        (".idx",),
        (".records.parquet",),
        (".bin", ".idx", ".records.parquet"),
    ):
        pairs = [(build / f"main/00000{suffix}", build / f"main/00001{suffix}") for suffix in suffixes]
        for first, second in pairs:
            _exchange(first, second)
        yield (
            "two shards swapped",
            " ".join(suffixes),
            {path.relative_to(build).as_posix() for p in pairs for path in p},
        )
        for first, second in pairs:
            _exchange(first, second)


def _shards_too_many_or_few(build: Path) -> Iterator[tuple[str, str, set[str]]]:
    copies = []
    for path in sorted((build / "main").glob("00001.*")):
        copies.append(path.with_name(path.name.replace("00001", "00002")))
        shutil.copy(path, copies[-1])
    yield "a shard too many", "main/00002", {path.relative_to(build).as_posix() for path in copies}
    for path in copies:
        path.unlink()
    kept = {path: path.read_bytes() for path in sorted((build / "main").glob("00001.*"))}
    for path in kept:
        path.unlink()
    yield "a shard too few", "main/00001", {path.relative_to(build).as_posix() for path in kept}
    for path, data in kept.items():
        path.write_bytes(data)


def _edits(build: Path, chance: random.Random) -> Iterator[tuple[str, str, set[str]]]:
    """Values of the manifest changed: as an editor leaves it, and sealed anew by somebody who knows how."""
    path = build / NAME
    sound = path.read_bytes()
    plain = json.loads(sound)
    for place in chance.sample(list(_values(plain, ())), 60):
        edited = json.loads(sound)
        _change(edited, place)
        path.write_bytes(json.dumps(edited, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n")
        yield "a value of the manifest edited", ".".join(map(str, place)), {NAME}
    path.write_bytes(json.dumps(plain).encode())
    yield "the manifest written in another way", "", {NAME}
    path.write_bytes(sound)
    for place in [place for place in _values(plain, ()) if _is_proven(place)]:
        if _sealed_anew(build, place):
            yield "a count or digest edited, sealed anew", ".".join(map(str, place)), set()
        path.write_bytes(sound)


def _is_proven(place: tuple[Any, ...]) -> bool:
    """Whether a value can be held against the rest of the build. What else a manifest says that was sealed anew (its
    recipe, names of its stages) only its digest tells, which the lock keeps."""
    return place[0] in ("datasets", "files", "tables") and place[-1] != "name"


def _sealed_anew(build: Path, place: tuple[Any, ...]) -> bool:
    """Change a value and seal the manifest again; False where the change is none that a manifest can hold."""
    manifest, _ = inspect_manifest(build)
    contents = json.loads(manifest.model_dump_json(by_alias=True))
    _change(contents, place)
    made = Made.model_validate_json(json.dumps(contents.pop("made")))
    for name in ("digest", "seal"):
        contents.pop(name)
    try:
        write_manifest(build, sealed(Contents.model_validate_json(json.dumps(contents)), made=made))
    except ValueError:
        return False
    return True


def _values(value: Any, place: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """The places of all numbers and texts."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _values(inner, (*place, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _values(inner, (*place, number))
    elif isinstance(value, int | str):
        yield place


def _change(value: Any, place: tuple[Any, ...]) -> None:
    for step in place[:-1]:
        value = value[step]
    old = value[place[-1]]
    value[place[-1]] = old + 1 if isinstance(old, int) else old[:-1] + ("0" if old[-1:] != "0" else "1")


def _exchange(first: Path, second: Path) -> None:
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)


def _files(build: Path) -> list[Path]:
    return sorted(path for path in build.rglob("*") if path.is_file())


def _kind(path: Path) -> str:
    return path.name.partition(".")[2] if path.name[0].isdigit() else path.name
