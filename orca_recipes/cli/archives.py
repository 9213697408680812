"""The commands that keep a recipe for years: archive and rebuild."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from orca_recipes.cli.options import JSON, STORE, TRACES, BuildPlace, DiskPath, ask, load, print_json, print_text
from orca_recipes.counted import counted


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--profile", metavar="NAME", help="Merge [profiles.NAME] into the recipe.")
@click.option("-o", "--out", required=True, type=DiskPath(path_type=Path, dir_okay=False), help="The tar to write.")
@click.option("--without", multiple=True, metavar="COLLECTION", help="Do not pack its files; may be repeated.")
@click.option("--most-bytes", type=click.IntRange(min=0), metavar="N", help="Do not pack larger collections.")
@click.option("--wheels", type=click.Path(path_type=Path), metavar="DIR", help="Pack the wheels of this folder, too.")
@STORE
@TRACES
@JSON
def archive(
    recipe: Path,
    profile: str | None,
    out: Path,
    without: tuple[str, ...],
    most_bytes: int | None,
    wheels: Path | None,
    store: Path,
    traces: Path | None,
    as_json: bool,
) -> None:
    """Pack a recipe, its lock, the files it reads and the answers it bought into one tar, the same bytes each time.

    Listed with their digests and not packed: files of a hub, collections named by --without, and collections whose
    licence the recipe's `[licenses] share` does not name. A recipe that was not built as it stands is built first.
    """
    from orca_recipes.archive.archive import archive_recipe
    from orca_recipes.progress import progress_for

    asked = ask(load(recipe, profile, ()), store=store, traces=traces, out=None, limit=None)
    with progress_for() as progress:
        found = archive_recipe(asked, out, progress, without=without, most_bytes=most_bytes, wheels=wheels)
    if as_json:
        print_json(found.as_json())
        return
    _print_missing(found.missing)
    print_text(f"{out}: {counted(found.files, 'file')}, {found.digest}; data {found.expected}")


@click.command()
@click.argument("archive", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--out", required=True, type=BuildPlace(path_type=Path), metavar="DIR", help="The build directory.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that work at once.  [default: one for each core]",
)
@click.option(
    "--wheels",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write the archive's wheels here, and say how pip installs them.",
)
@JSON
def rebuild(archive: Path, out: Path, workers: int | None, wheels: Path | None, as_json: bool) -> None:
    """Build what an archive holds, and compare the digest of its data: exit status 1 where they differ.

    Neither the store nor the files of this machine are used. What differs between this environment and the archive's is
    said first, with the pip command that makes up for it.
    """
    from orca_recipes.archive.rebuild import rebuild as rebuilt
    from orca_recipes.catalogue import Catalogue
    from orca_recipes.progress import progress_for

    def told(sentence: str) -> None:
        print_text(sentence, err=True)

    with progress_for() as progress:
        count = workers or os.cpu_count() or 1
        found = rebuilt(archive, out, Catalogue(), progress, workers=count, told=told, wheels=wheels)
    if as_json:
        print_json(found.as_json())
    else:
        _print_missing(found.missing)
        print_text(f"data {found.digest or 'could not be built'}, {found.expected} is expected")
    if found.why is not None:
        print_text(found.why, err=True)
    if not found.is_equal:
        sys.exit(1)


def _print_missing(missing: list[dict[str, Any]]) -> None:
    for one in missing:
        more = {key: value for key, value in one.items() if key not in ("part", "path", "name")}
        told = ", ".join(f"{key} {value}" for key, value in more.items())
        print_text(
            f"not in the archive: {one['part']}: {one.get('path') or one.get('name')}" + (f" ({told})" * bool(told))
        )
