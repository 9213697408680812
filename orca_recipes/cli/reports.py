"""The commands that tell of a build to people: report."""

from __future__ import annotations

from pathlib import Path

import click

from orca_recipes.cli.options import BUILD, JSON, print_json, print_text


@click.command()
@BUILD
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True, help="The file."
)
@click.option("--verify", "whole", is_flag=True, help="Verify a build of any size whole; small ones always are.")
@JSON
def report(directory: Path, out: Path, whole: bool, as_json: bool) -> None:
    """Write one page about a build that any browser opens, without a network.

    Its mixture as asked and as built, lengths and packing, what was lost and why, curriculum, cost, samples with their
    masks, lineage, and what was proven. A damaged build gets none.
    """
    from orca_recipes.catalogue import Catalogue
    from orca_recipes.progress import progress_for
    from orca_recipes.report.report import write_report
    from orca_recipes.run.work.heap import keep_heap
    from orca_recipes.store.arrow_files import keep_pandas_out

    keep_heap()
    keep_pandas_out()
    with progress_for() as progress:
        written = write_report(directory, out, kinds=Catalogue(), progress=progress, whole=whole)
    if as_json:
        print_json(written.as_json())
    else:
        print_text(f"{written.path}: {written.bytes:,} bytes; open it in a browser")
