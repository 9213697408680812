"""Wheels in an archive, so that a rebuild needs no package index in three years."""

from __future__ import annotations

import hashlib
import shlex
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from orca_recipes.errors import BuildError
from orca_recipes.shards.files import write_whole

REQUIREMENTS = "requirements.txt"


def packed_wheels(folder: Path) -> list[tuple[str, Path]]:
    """Give the wheels of a folder, each with its "name==version". Raises: BuildError where there is none.

    One version may have several, each for another machine.
    """
    found = list(_wheels(folder))
    if not found:
        raise BuildError(f"--wheels {folder}: it holds no wheel; `pip download -d {folder} orca-recipes` fetches them")
    return found


def lacking(environment: Mapping[str, Any], packed: Collection[str]) -> list[dict[str, str]]:
    """Name the packages of an environment that no packed wheel is of."""
    wanted = {name: version for name, version in environment["packages"].items() if version}
    wanted |= {name: pin["version"] for name, pin in environment["plugins"].items()}
    names = [f"{canonicalize_name(name)}=={version}" for name, version in wanted.items()]
    return [{"part": "wheels", "name": name} for name in names if name not in packed]


def unpacked_wheels(tree: Path, folder: Path) -> str | None:
    """Put the wheels of an archive into a folder, with the digests that pip holds them to.

    Args:
        tree: the folder of the archive that holds them; it need not be there.
    Returns: the line of pip that installs what the folder holds; None where there is no wheel.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(tree.glob("*.whl")):
        shutil.copyfile(path, folder / path.name)
    digests: dict[str, list[str]] = {}
    for name, path in sorted(_wheels(folder)):
        digests.setdefault(name, []).append(f" --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}")
    # One line a version: pip takes a second one for a contradiction.
    lines = [f"{name}{''.join(found)}\n" for name, found in digests.items()]
    if not lines:
        return None
    place = folder / REQUIREMENTS
    write_whole(place, "".join(lines).encode())
    options = ["--no-index", "--no-deps", "--require-hashes", "--find-links", str(folder), "-r", str(place)]
    return shlex.join(["pip", "install", *options])


def _wheels(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.glob("*.whl")):
        try:
            name, version, _, _ = parse_wheel_filename(path.name)
        except InvalidWheelFilename as fault:
            raise BuildError(f"{path}: its name is none of a wheel ({fault}); take it out of the folder") from fault
        yield f"{name}=={version}", path
