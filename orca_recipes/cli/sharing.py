"""The commands for builds that go to others: diff, sign."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from orca_recipes.cli.options import BUILD, JSON, print_json, print_text

_SIDE = click.Path(path_type=Path)


@click.command()
@click.argument("before", metavar="A", type=_SIDE)
@click.argument("after", metavar="B", type=_SIDE)
@click.option("--profile", metavar="NAME", help="Of recipes: compare what this profile makes of them.")
@JSON
def diff(before: Path, after: Path, profile: str | None, as_json: bool) -> None:
    """Say what changed from A to B: two recipes, two locks or two builds.

    What was asked, what was pinned, and of builds every example by its id and its digests, with the tokens of each
    collection and task. Exit status 0 where nothing differs, 1 where something does.
    """
    from orca_recipes.catalogue import Catalogue
    from orca_recipes.diff.difference import compare
    from orca_recipes.diff.difference_page import difference_page
    from orca_recipes.progress import progress_for
    from orca_recipes.run.work.heap import keep_heap
    from orca_recipes.store.arrow_files import keep_pandas_out

    keep_heap()
    keep_pandas_out()
    with progress_for() as progress:
        found = compare(before, after, kinds=Catalogue(), progress=progress, profile=profile)
    if as_json:
        print_json(found.as_json())
    else:
        print_text(difference_page(found))
    if not found.is_equal:
        sys.exit(1)


@click.command()
@BUILD
@click.option("--key", type=_SIDE, required=True, help="An SSH private key (or a public one that your agent holds).")
@click.option("--out", "-o", type=_SIDE, help="The signature.  [default: DIR.sig, beside DIR]")
@JSON
def sign(directory: Path, key: Path, out: Path | None, as_json: bool) -> None:
    """Sign a build with an SSH key, so that others can tell that it is yours and unchanged.

    \b
    orca-recipe sign build/NAME --key ~/.ssh/id_ed25519
    orca-recipe verify build/NAME --signature build/NAME.sig --key id_ed25519.pub

    The signature is OpenSSH's own, of manifest.json, which holds the digests of all files.
    """
    from orca_recipes.prove.signing import sign as signed

    out = out or directory.with_name(f"{directory.name}.sig")
    signed(directory, key=key, out=out)
    if as_json:
        print_json({"signature": str(out)})
    else:
        print_text(
            f"{out}: signed; others check it with  orca-recipe verify {directory} --signature {out} --key KEY.pub"
        )
