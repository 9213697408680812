"""Wheels in an archive, so that a rebuild needs no package index in three years."""

from __future__ import annotations

import hashlib
import shlex
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from orca_recipes.errors import BuildError
from orca_recipes.shards.files import write_whole

REQUIREMENTS = "requirements.txt"


def packed_wheels(folder: Path) -> dict[str, Path]:
    """Give the wheels of a folder by "name==version". Raises: BuildError where there is none."""
    found = dict(_wheels(folder))
    if not found:
        raise BuildError(f"--wheels {folder}: it holds no wheel; `pip download -d {folder} orca-recipes` fetches them")
    return found


def lacking(environment: Mapping[str, Any], packed: Mapping[str, Path]) -> list[dict[str, str]]:
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
    lines = [
        f"{name} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"
        for name, path in sorted(_wheels(folder))
    ]
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
