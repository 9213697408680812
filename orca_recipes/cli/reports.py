"""Commands that describe a build to people: report, card."""

from __future__ import annotations

from pathlib import Path

import click

from orca_recipes.cli.options import BUILD, JSON, DiskPath, print_json, print_text
from orca_recipes.errors import UserError
from orca_recipes.store.disk_faults import writing


@click.command()
@BUILD
@click.option(
    "-o", "--out", type=DiskPath(path_type=Path), default=Path("report.html"), show_default=True, help="The file."
)
@click.option("--verify", "whole", is_flag=True, help="Verify a build of any size whole; small ones always are.")
@click.option("--against", "other", type=click.Path(path_type=Path), metavar="OTHER", help="Tell what differs from it.")
@JSON
def report(directory: Path, out: Path, whole: bool, other: Path | None, as_json: bool) -> None:
    """Write one page about a build that any browser opens, without a network.

    Its mixture as asked and as built, lengths and packing, what was lost and why, curriculum, cost, samples with their
    masks, lineage, and what was proven. With --against, what changed since another build, with examples. A damaged
    build gets none.
    """
    from orca_recipes.catalogue import Catalogue
    from orca_recipes.progress import progress_for
    from orca_recipes.report.report import write_report
    from orca_recipes.run.work.heap import keep_heap
    from orca_recipes.store.arrow_files import keep_pandas_out

    keep_heap()
    keep_pandas_out()
    with progress_for() as progress, writing(out.parent, f"the report {out}", "choose another place with -o"):
        written = write_report(directory, out, kinds=Catalogue(), progress=progress, whole=whole, other=other)
    if as_json:
        print_json(written.as_json())
    else:
        print_text(f"{written.path}: {written.bytes:,} bytes; open it in a browser")


@click.command()
@BUILD
@click.option("-o", "--out", type=DiskPath(path_type=Path), required=True, help="The folder for both files.")
@click.option("--language", "languages", multiple=True, metavar="CODE", help="Of the texts: en; may be repeated.")
@click.option(
    "--license",
    "--licence",
    "licences",
    multiple=True,
    metavar="COLLECTION=NAME",
    help="As hubs name it: flan=apache-2.0; may be repeated. What is not said is unknown.",
)
@JSON
def card(directory: Path, out: Path, languages: tuple[str, ...], licences: tuple[str, ...], as_json: bool) -> None:
    """Write the card of a build or an export: README.md for hubs, croissant.json for loaders.

    \b
    orca-recipe card build/NAME -o build/NAME    beside its files, where paths lead: push takes it along
    orca-recipe card export/NAME.hf -o card      to look at first

    Paths in both are relative to the build or the export. `verify` passes over a card.
    """
    from orca_recipes.card.card import write_card

    named = {}
    for told in licences:
        source, equals, name = told.partition("=")
        if not (source and equals and name):
            raise UserError(f"--license {told}: say of which collection, as in --license flan=apache-2.0")
        named[source] = name
    with writing(out, f"the card {out}", "choose another folder with -o"):
        files = write_card(directory, out, languages=languages, licences=named)
    if as_json:
        print_json({"files": [str(file) for file in files]})
    else:
        print_text("\n".join(f"{file}: written" for file in files))
