"""Is a build what its manifest says, as far as can be told in a second?

Before a training, sizes of all pairs and digests of the indexes are compared; `--verify` takes the digests of the
tokens too. An index that has its digest is the one that the build proved, so no column of it is looked at again.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from orca_recipes.errors import BuildError
from orca_recipes.shards import curriculum
from orca_recipes.shards.digests import file_digest
from orca_recipes.shards.files import damage
from orca_recipes.shards.layout import index_path, records_path, tokens_path
from orca_recipes.shards.manifest import NAME, FileDigest, Manifest
from orca_recipes.shards.proven_files import prove_files


def examine(build: Path, manifest: Manifest, *, whole: bool, held_out: Collection[str] = ()) -> None:
    """Hold the files that a training reads against the manifest.

    Args:
        whole: the digests of the tokens too. held_out: datasets whose records are read, so that theirs are taken.
    Raises: BuildError for a build without shards; DamagedShard, naming the file.
    """
    promised = {file.path: file for file in manifest.files}
    pairs = list(_pairs(build, manifest))
    for path in pairs:
        name = path.as_posix()
        if name not in promised:
            raise damage(build / NAME, f"it lists no {name}")
        _check_size(build, promised[name])
    digested = [path for path in pairs if whole or path.suffix == ".idx"] + [Path(curriculum.NAME)]
    chosen = [promised[path.as_posix()] for path in digested if path.as_posix() in promised]
    # Hashing lets go of the interpreter, so threads share the cores.
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as threads:
        for _ in threads.map(lambda file: _check_digest(build, file), chosen):
            pass
    shards = (shard for name in held_out for shard in manifest.datasets[name].shards)
    prove_files(build, manifest, (records_path(Path(shard.prefix)).as_posix() for shard in shards))


def _pairs(build: Path, manifest: Manifest) -> Iterator[Path]:
    for name, counts in manifest.datasets.items():
        if not counts.shards or not counts.rows:
            raise BuildError(f"{build}: dataset {name} has no shards; build it again with rows to train on")
        for shard in counts.shards:
            yield from (tokens_path(Path(shard.prefix)), index_path(Path(shard.prefix)))


def _check_size(build: Path, file: FileDigest) -> None:
    path = build / file.path
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise damage(path, "the manifest promises this file, and there is none") from None
    if size != file.bytes:
        raise damage(path, f"it has {size:,} bytes, where the manifest promises {file.bytes:,}")


def _check_digest(build: Path, file: FileDigest) -> None:
    path = build / file.path
    if file_digest(path) != file.digest:
        raise damage(path, "it was changed after the build: it does not have the digest that the manifest promises")
