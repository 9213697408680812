"""Pack a recipe with all it reads: a rebuild has to give the data digest in the lock."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from orca_recipes.archive.environment import environment
from orca_recipes.archive.tar_file import FORMAT, write_archive
from orca_recipes.archive.tree import Read, files_read, portable, root_of
from orca_recipes.archive.wheels import lacking, packed_wheels
from orca_recipes.errors import BuildError
from orca_recipes.plan.pins import differences
from orca_recipes.plan.used_parts import collects
from orca_recipes.progress import Progress
from orca_recipes.recipe.licences import not_shared
from orca_recipes.recipe.load import LoadedRecipe
from orca_recipes.run.build import Asked, Prepared, bench_of, made, prepare
from orca_recipes.run.collect import requested
from orca_recipes.run.pinning.lock_file import lock_path, read_lock
from orca_recipes.run.pinning.moving_names import settled
from orca_recipes.shards.digests import bytes_digest, file_digest
from orca_recipes.traces.exchange import export_traces
from orca_recipes.traces.trace_store import TraceStore, default_root

ANSWERS = "answers/traces.jsonl"
"""Where an archive keeps the bought answers that its recipe uses."""
WHEELS = "wheels"
"""The folder of an archive that holds packages."""
WRITTEN = "extends"
"""The folder of an archive that holds a recipe and those that it extends as they were written."""


@dataclass(frozen=True)
class Archived:
    """A written archive: `expected` is the data digest a rebuild must give, `missing` lists files it must get
    elsewhere."""

    path: Path
    digest: str
    expected: str
    files: int
    missing: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        told = {"archive": str(self.path), "digest": self.digest, "expected": self.expected, "files": self.files}
        return told | {"missing": self.missing}


def archive_recipe(
    asked: Asked,
    out: Path,
    progress: Progress,
    *,
    without: tuple[str, ...] = (),
    most_bytes: int | None = None,
    wheels: Path | None = None,
) -> Archived:
    """Write the archive of a recipe; one that was not built as it stands is built first.

    Args:
        without: collections whose files are not packed, beside those whose licence `[licenses] share` does not name.
        most_bytes: a collection that is larger is not packed.
        wheels: a folder of wheels that are packed, for a rebuild without a package index.
    Raises: RecipeError for an unknown collection; BuildError for a folder without wheels; whatever a build raises.
    """
    if unknown := sorted(set(without) - set(asked.loaded.recipe.collections)):
        raise asked.loaded.fault([(("collections",), f"--without names no collection of it: {', '.join(unknown)}")])
    without = (*without, *not_shared(asked.loaded.recipe))
    # Who rebuilds has the archive alone, and no command line of today.
    if not asked.loaded.is_file or asked.is_variant:
        raise BuildError("an archive holds a recipe as its file and profile say it: leave out --set and --limit")
    prepared = prepare(asked)
    # A lock that stands for this very plan says what a rebuild must give: nothing need be built for it.
    expected = _locked_data(asked, prepared) or made(asked, progress).manifest.data_digest
    lock = lock_path(asked.loaded.path, asked.loaded.profile)
    reads = list(files_read(settled(asked.loaded, read_lock(lock), insist=False)))
    kept = _kept(reads, without, most_bytes)
    recipe = Path(os.path.abspath(asked.loaded.path))
    root = root_of(recipe, kept)
    contents: dict[str, Path | bytes] = {read.path.relative_to(root).as_posix(): read.path for read in kept}
    contents[recipe.relative_to(root).as_posix()] = portable(asked.loaded, root, kept)
    contents |= _written(asked.loaded, lock)
    if lock.is_file() and not asked.loaded.extends:
        contents[Path(os.path.abspath(lock)).relative_to(root).as_posix()] = lock.read_bytes()
    here = environment(prepared.pins.plugins, prepared.pins.kinds)
    missing = _missing(asked, reads, kept, root)
    packages = [] if wheels is None else packed_wheels(wheels)
    contents |= {f"{WHEELS}/{path.name}": path for _, path in packages}
    missing += [] if wheels is None else lacking(here, {name for name, _ in packages})
    answers = _answers(asked, prepared, progress, without)
    contents |= {} if answers is None else {ANSWERS: answers}
    manifest = {
        "format": FORMAT,
        "name": asked.loaded.recipe.name,
        "recipe": recipe.relative_to(root).as_posix(),
        "profile": asked.loaded.profile,
        "expected": expected,
        "files": [{"path": path, **_size_and_digest(held)} for path, held in sorted(contents.items())],
        "missing": missing,
        "environment": here,
    }
    manifest |= {} if answers is None else {"answers": ANSWERS}
    write_archive(out, manifest, contents)
    return Archived(out, file_digest(out), expected, len(contents), missing)


def _written(loaded: LoadedRecipe, lock: Path) -> dict[str, Path | bytes]:
    """Return the recipe, those it extends and the lock as they were written; the archive also holds them joined. Empty
    for a recipe that extends none."""
    if not loaded.extends:
        return {}
    files = [loaded.path, *(each.path for each in loaded.extends), *([lock] if lock.is_file() else [])]
    return {f"{WRITTEN}/{place}.{path.name}": path.read_bytes() for place, path in enumerate(files)}


def _locked_data(asked: Asked, prepared: Prepared) -> str | None:
    """Return the lock's data digest if the lock is current, else None."""
    lock = read_lock(lock_path(asked.loaded.path, asked.loaded.profile))
    if lock is None or differences(lock.pins, prepared.pins):
        return None
    plan = {stage.name: stage.fingerprint for stage in prepared.plan}
    data: str | None = lock.outcomes.get("data") if lock.outcomes.get("plan") == plan else None
    return data


def _kept(reads: list[Read], without: tuple[str, ...], most_bytes: int | None) -> list[Read]:
    sizes: dict[str, int] = {}
    for read in reads:
        sizes[read.part] = sizes.get(read.part, 0) + read.path.stat().st_size
    left_out = {f"collections.{name}" for name in without}
    left_out |= {part for part, size in sizes.items() if most_bytes is not None and size > most_bytes}
    return [read for read in reads if read.packs and read.part not in left_out]


def _missing(asked: Asked, reads: list[Read], kept: list[Read], root: Path) -> list[dict[str, Any]]:
    """List the files that are not packed, each with size, digest, and the path to put it at or the hub it comes
    from."""
    packed = {read.path for read in kept}
    found: list[dict[str, Any]] = []
    for read in reads:
        if read.path in packed:
            continue
        # A file outside of the root has no path that would mean anything on another machine.
        inside = read.packs and read.path.is_relative_to(root)
        where = {"path": read.path.relative_to(root).as_posix()} if inside else {"name": read.path.name}
        found.append({"part": read.part, **where, **_size_and_digest(read.path), **_address(asked, read.part)})
    return found


def _answers(asked: Asked, prepared: Prepared, progress: Progress, without: Collection[str]) -> bytes | None:
    """Export the stored answers to the recipe's requests, except of left-out collections; None if it asks no
    teacher."""
    if not any(collects(prepared.recipe, name) for name in prepared.recipe.datasets):
        return None
    keys = requested(bench_of(asked, prepared, progress), without=without)
    with TemporaryDirectory() as folder, TraceStore(asked.traces or default_root()) as traces:
        path = Path(folder) / "traces.jsonl"
        export_traces(traces, path, keys=keys)
        return path.read_bytes()


def _address(asked: Asked, part: str) -> Mapping[str, Any]:
    """Return a part's hub, revision and licence, as the recipe gives them."""
    head, _, name = part.partition(".")
    table = asked.loaded.resolved.get(head, {})
    chosen = table.get(name, {}) if name and isinstance(table, Mapping) else table
    names = ("hub", "revision", "hub_revision", "license", "licence")
    return {key: chosen[key] for key in names if key in chosen} if isinstance(chosen, Mapping) else {}


def _size_and_digest(held: Path | bytes) -> dict[str, Any]:
    if isinstance(held, bytes):
        return {"bytes": len(held), "digest": bytes_digest(held)}
    return {"bytes": held.stat().st_size, "digest": file_digest(held)}
