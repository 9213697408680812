"""Folders of checkpoints: their names, their coming and going, and digests of what is in them.

A folder appears by a rename when all of it is on disk, and disappears by one before anything in it is removed, so what
has the name of a checkpoint is whole. Files are digested by all ranks together, each its share.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch

from orca_recipes.shards.digests import file_digest
from orca_recipes.shards.files import sync_folder

_NAME = re.compile(r"step-(\d{8,})")


def folder_name(step: int) -> str:
    return f"step-{step:08d}"


def checkpoints(folder: Path) -> list[Path]:
    """List all whole checkpoints under a folder, by step."""
    found = [place for place in folder.glob("step-*") if _NAME.fullmatch(place.name)]
    return sorted(found, key=lambda place: int(place.name.removeprefix("step-")))


def publish(aside: Path, published: Path) -> None:
    """Give a complete folder the name of a checkpoint; one that has it already makes room.

    A run that goes on from an older checkpoint comes by the same step again.
    """
    sync_folder(aside)
    if published.exists():
        remove(published)
    aside.rename(published)
    sync_folder(published.parent)


def keep_apart(published: Path) -> None:
    """Rename a checkpoint that holds a user's files to a name no checkpoint has."""
    published.rename(published.with_name(f"{published.name}.replaced-{secrets.token_hex(4)}"))


def remove(published: Path) -> None:
    """Remove a checkpoint, its name first."""
    removing = published.with_name(f".{published.name}.removing")
    shutil.rmtree(removing, ignore_errors=True)
    published.rename(removing)
    shutil.rmtree(removing)


def clear(folder: Path) -> None:
    """Remove what a killed run left half written or half removed."""
    for left in (*folder.glob(".step-*.partial"), *folder.glob(".step-*.removing")):
        shutil.rmtree(left)


def digests_by_all_ranks(folder: Path, known: Mapping[str, str]) -> dict[str, str]:
    """Digest all files of a folder, equal on every rank; every rank calls it.

    Args:
        known: digests that this rank has already.
    """
    found = _joined(known)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    unknown = [name for name in names if name not in found]
    return dict(sorted({**found, **_joined({name: file_digest(folder / name) for name in _share(unknown)})}.items()))


def damage_found_by_all_ranks(folder: Path, files: Mapping[str, str]) -> str | None:
    """Return the first file that differs from its digest; None where all agree. Every rank calls it."""
    own = {name: "" for name in _share(sorted(files)) if not _is_as_written(folder / name, files[name])}
    return min((name for names in _gathered(own) for name in names), default=None)


def _share(names: list[str]) -> list[str]:
    return names[torch.distributed.get_rank() :: torch.distributed.get_world_size()]


def _joined(own: Mapping[str, str]) -> dict[str, str]:
    return {name: digest for digests in _gathered(dict(own)) for name, digest in digests.items()}


def _gathered(own: dict[str, str]) -> list[dict[str, str]]:
    everywhere: list[dict[str, str]] = [{} for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(everywhere, own)
    return everywhere


def _is_as_written(path: Path, digest: str) -> bool:
    return path.is_file() and file_digest(path) == digest
