"""The commands for builds that go to others: diff, sign, push."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orca_recipes.cli.options import BUILD, JSON, BuildPath, DiskPath, print_json, print_text
from orca_recipes.counted import counted
from orca_recipes.store.disk_faults import writing

if TYPE_CHECKING:
    from orca_recipes.push.push import Pushed

_SIDE = click.Path(path_type=Path)


@click.command()
@click.argument("before", metavar="A", type=BuildPath())
@click.argument("after", metavar="B", type=BuildPath())
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
@click.option(
    "--out",
    "-o",
    type=DiskPath(path_type=Path),
    help="The signature.  [default: DIR.sig, beside a folder]",
)
@JSON
def sign(directory: Path, key: Path, out: Path | None, as_json: bool) -> None:
    """Sign a build with an SSH key, so that others can tell that it is yours and unchanged.

    \b
    orca-recipe sign build/NAME --key ~/.ssh/id_ed25519
    orca-recipe verify build/NAME --signature build/NAME.sig --key id_ed25519.pub

    The signature is OpenSSH's own, of manifest.json, which holds the digests of all files.
    """
    from orca_recipes.prove.signing import sign as signed
    from orca_recipes.store.shared_build import build_name

    beside = Path(directory.name) if build_name(directory) != str(directory) else directory
    out = out or beside.with_name(f"{beside.name}.sig")
    with writing(out.parent, f"the signature {out}", "choose another place with -o"):
        out.parent.mkdir(parents=True, exist_ok=True)
        signed(directory, key=key, out=out)
    if as_json:
        print_json({"signature": str(out)})
    else:
        print_text(
            f"{out}: signed; others check it with  orca-recipe verify {directory} --signature {out} --key KEY.pub"
        )


@click.command()
@BUILD
@click.argument("repo", metavar="REPO")
@click.option("--endpoint", metavar="URL", help="Another hub than that of the hub's library.")
@click.option("--dry-run", is_flag=True, help="Say what would be uploaded, and send nothing.")
@click.option("--public", is_flag=True, help="Let all see it; without this a new repository is private.")
@JSON
def push(directory: Path, repo: str, endpoint: str | None, dry_run: bool, public: bool, as_json: bool) -> None:
    """Upload a build or an export to a repository of data sets on a hub.

    \b
    orca-recipe push build/NAME me/NAME --dry-run
    orca-recipe push export/NAME.hf me/NAME

    What will be uploaded is printed first; one commit then holds all of it. The token is that of `hf auth login` or
    HF_TOKEN, and goes nowhere that you have not allowed (`orca-recipe trust add HOST HF_TOKEN`). What broke off goes on
    with the same command: files that the hub has are not sent again. Files of an earlier push that this one has not are
    removed by the same commit; what else lies there stays.
    """
    from orca_recipes.progress import progress_for
    from orca_recipes.push.push import push as pushed

    def told(planned: Pushed) -> None:
        lines = [f"{size:>15,}  {path}" for path, size in planned.uploads.items()]
        seen = "private" if planned.private else "public"
        sizes = f"{counted(len(planned.uploads), 'file')}, {counted(planned.bytes, 'byte')}"
        where = f"{planned.endpoint}, data set {planned.repo}, {seen}"
        print_text("\n".join([*lines, f"{sizes} {'would go' if dry_run else 'go'} to {where}"]), err=as_json)

    with progress_for() as progress:
        found = pushed(directory, repo, endpoint=endpoint, public=public, dry_run=dry_run, progress=progress, told=told)
    if as_json:
        print_json(found.as_json())
    elif found.commit is not None:
        removed = f", {counted(len(found.removed), 'file')} of an earlier push removed" if found.removed else ""
        print_text(f"{found.endpoint}/datasets/{found.repo}: commit {found.commit}{removed}")
