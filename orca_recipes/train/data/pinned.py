"""A training's open files of its build, kept from the start on: later changes to the directory have no effect.

Shards are mapped and the tokenizer is read whole, so that validation, checkpoints and later phases see the build that
the training began with, even where somebody removes it or puts another in its place; `build` itself is kept from that.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from orca_recipes.errors import BuildError, OrcaError
from orca_recipes.shards.digests import bytes_digest
from orca_recipes.shards.files import damage, read_whole
from orca_recipes.shards.in_use import Reading
from orca_recipes.shards.layout import TOKENIZER as TOKENIZER_FILE
from orca_recipes.train.checkpoints.description import TOKENIZER
from orca_recipes.train.data.rows import Rows
from orca_recipes.train.data.validation_groups import Groups, read_groups, validation_order
from orca_recipes.train.training_settings import Settings

_FILES_BESIDE = 256
"""How many files a rank may have open beside shards."""


@dataclass(frozen=True)
class Pinned:
    """rows: all of them, mapped. groups: of the examples of each dataset that is held out. tokenizer: files of its
    folder by name, as they are copied into checkpoints."""

    rows: Rows
    groups: Mapping[str, Groups]
    tokenizer: Mapping[str, bytes]


@contextmanager
def of_one_build(directory: Path, reading: Reading) -> Iterator[None]:
    """Check on leaving that the build was not replaced while it was read.

    Raises: BuildError where one did, in place of whatever else was found then.
    """
    sentence = f"{directory} was replaced while the training began to read it; run the same command again"
    try:
        yield
    except OrcaError as error:
        if reading.is_still_there():
            raise
        raise BuildError(sentence) from error
    if not reading.is_still_there():
        raise BuildError(sentence)


def pinned(settings: Settings) -> Pinned:
    """Open what a training will read.

    Raises: DamagedShard.
    """
    rows = Rows(settings.request.build, settings.manifest)
    _make_room(2 * sum(len(counts.shards) for counts in settings.manifest.datasets.values()) + _FILES_BESIDE)
    rows.open_all()
    return Pinned(rows, _groups(settings, rows), _tokenizer(settings))


def refuse_different_builds(settings: Settings) -> None:
    """Check that all ranks read the same build; every rank calls it.

    Raises: BuildError.
    """
    digests: list[str] = [""] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(digests, settings.manifest.digest)
    other = next((rank for rank, digest in enumerate(digests) if digest != digests[0]), None)
    if other is not None:
        raise BuildError(
            f"{settings.request.build} is not the same build to all ranks (rank 0 has manifest {digests[0]}, "
            f"rank {other} {digests[other]}); copy it to all machines anew, or name a folder that they share"
        )


def _groups(settings: Settings, rows: Rows) -> dict[str, Groups]:
    """Read the groups of each held-out dataset, for as many rows as the phase with the most validation rows uses."""
    looks = sorted((phase.training for phase in settings.chosen), key=lambda training: training.validation_rows)
    most = {training.validation: training for training in looks if training.validation is not None}
    return {name: read_groups(rows, validation_order(rows, training)) for name, training in most.items()}


def _tokenizer(settings: Settings) -> dict[str, bytes]:
    files = {}
    for file in settings.manifest.files:
        if file.path.startswith(f"{TOKENIZER}/"):
            path = settings.request.build / file.path
            data = read_whole(path)
            if bytes_digest(data) != file.digest:
                raise damage(path, "it does not have the digest that the manifest promises")
            files[file.path.removeprefix(f"{TOKENIZER}/")] = data
    if TOKENIZER_FILE.removeprefix(f"{TOKENIZER}/") not in files:
        raise damage(settings.request.build / TOKENIZER_FILE, "the manifest does not list it")
    return files


def _make_room(files: int) -> None:
    """Let this process have so many files open, as far as it may: a mapped file is an open one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < files:
        with suppress(OSError, ValueError):
            allowed = files if hard == resource.RLIM_INFINITY else min(files, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
