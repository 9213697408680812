"""The commands that look: at a build (verify, show, explain), and at what a recipe can choose (kinds, schema)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orca_recipes.cli.options import (
    JSON,
    LAZY_BUILD,
    STORE,
    TRACES,
    print_json,
    print_json_lines,
    print_text,
)
from orca_recipes.counted import counted

if TYPE_CHECKING:
    from orca_recipes.shards.checks.verify_report import Report

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("name", required=False)
@JSON
def kinds(name: str | None, as_json: bool) -> None:
    """List the kinds that recipes can choose, with the package that offers each.

    NAME shows one kind with its options and an example, or a table of a recipe (mixtures, rules, datasets).
    """
    from orca_recipes.catalogue import Catalogue
    from orca_recipes.cli.kind_pages import kind_page, kinds_json, list_page

    catalogue = Catalogue()
    if as_json:
        print_json(kinds_json(catalogue, name))
        return
    print_text(kind_page(catalogue, name) if name else list_page(catalogue))


@click.command()
@JSON
def env(as_json: bool) -> None:
    """Tell of this machine what a report of a bug needs: versions, plugins; no folder, no secret."""
    from orca_recipes.cli.bug_report import environment, environment_page

    told = environment()
    if as_json:
        print_json(told)
    else:
        print_text(environment_page(told))


@click.command()
@click.option("--manifest", "of_manifest", is_flag=True, help="The schema of a build's manifest.json instead.")
@click.option("--json", is_flag=True, expose_value=False, help="As always: what is printed is JSON.")
def schema(of_manifest: bool) -> None:
    """Print a JSON Schema of recipes that covers all installed kinds, for editors to complete and check with.

    \b
    orca-recipe schema > recipe.schema.json
    Then begin a recipe with:  #:schema ./recipe.schema.json
    """
    from orca_recipes.catalogue import Catalogue
    from orca_recipes.recipe.schema import json_schema
    from orca_recipes.shards.manifest import manifest_schema

    chosen = manifest_schema() if of_manifest else json_schema(Catalogue())
    print_json(chosen)


class _Share(click.FloatRange):
    """A share above 0, up to 1; NaN, which compares with nothing, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        # Only NaN differs from itself; FloatRange lets it through, as it compares with nothing.
        if found != found:
            self.fail(f"{value} is no number between 0 and 1.", param, ctx)
        return found


@click.command()
@LAZY_BUILD
@click.option(
    "--sample",
    type=_Share(min=0, max=1, min_open=True),
    metavar="SHARE",
    help="For very large builds: no digests of files, and tokens and text of this share of the rows (0.01).",
)
@click.option("--lock", type=_FILE, help="Hold it against this lock too: a forged build is found.")
@click.option("--digest", metavar="DIGEST", help="Hold it against this digest, of the build or of its data.")
@click.option("--signature", type=_FILE, help="Hold it against this signature of `orca-recipe sign`; needs --key.")
@click.option("--key", type=_FILE, help="The public SSH key of who signed.")
@JSON
def verify(
    directory: Path,
    sample: float | None,
    lock: Path | None,
    digest: str | None,
    signature: Path | None,
    key: Path | None,
    as_json: bool,
) -> None:
    """Prove a build from its directory alone: digests, the format, every count, the text of every trained answer.

    What was not checked is said. Exit status 1 where something is wrong. A directory alone can be forged whole; a lock,
    a digest or a signature that was kept elsewhere shows it.
    """
    if (signature is None) != (key is None):
        raise click.UsageError("--signature and --key belong together")
    from orca_recipes.catalogue import Catalogue
    from orca_recipes.progress import progress_for
    from orca_recipes.prove.anchors import Anchors, anchored
    from orca_recipes.prove.prove import prove
    from orca_recipes.run.pinning.lock_file import outcomes_of
    from orca_recipes.run.work.heap import keep_heap
    from orca_recipes.store.shared_build import shared_build

    keep_heap()
    if sample is None and (shared := shared_build(directory)) is not None:
        shared.bring_all()
    anchors = Anchors(None if lock is None else (lock, outcomes_of(lock)), digest, signature, key)
    with progress_for() as progress:
        report = prove(directory, kinds=Catalogue(), sample=sample, progress=progress)
    report = anchored(directory, report, anchors)
    if as_json:
        print_json(report.as_json())
    else:
        print_text(_verdict(directory, report))
    if not report.is_sound:
        sys.exit(1)


def _verdict(directory: Path, report: Report) -> str:
    checked = ", ".join(
        counted(number, what.replace("_", " ").removesuffix("s")) for what, number in report.checked.items()
    )
    verdict = "sound" if report.is_sound else counted(len(report.findings), "fault")
    lines = [*map(str, report.findings), *(f"not checked: {what}" for what in report.not_checked)]
    data = f", data {report.data_digest}" if report.is_sound else ""
    return "\n".join([*lines, f"{directory}: {verdict}{data}" + (f" ({checked} checked)" if checked else "")])


@click.command()
@LAZY_BUILD
@click.option("--row", type=click.IntRange(min=0), metavar="R", help="This row, counted through the whole build.")
@click.option("--task", metavar="TASK", help="The first examples of a task, or of collection/task.")
@click.option("--example", metavar="ID", help="The example with this id, or whose id begins so.")
@click.option("--raw", is_flag=True, help="Token ids and segments instead of text.")
@click.option("--views", is_flag=True, help="What the teacher was asked beside what the student sees.")
@click.option("--rejected", is_flag=True, help="The rows that were lost: where each stood, which stage lost it, why.")
@click.option("--untrained", is_flag=True, help="The answers that filters left as context: where each stands, and why.")
@click.option("--dataset", metavar="NAME", help="Only this dataset.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each example: all of them, without a choice.")
def show(
    directory: Path,
    raw: bool,
    views: bool,
    rejected: bool,
    untrained: bool,
    dataset: str | None,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Look at rows: text by role, what is trained, where examples begin, and where each one came from.

    Without options, the first row of each dataset.
    """
    if sum((views, raw, rejected or as_json)) > 1 or sum((views, raw, rejected, untrained)) > 1:
        raise click.UsageError("give one of --views, --raw, and --json or --rejected or --untrained")
    if rejected or untrained:
        _show_listed("--rejected" if rejected else "--untrained", directory, dataset, as_json, chosen)
        return
    if as_json:
        from orca_recipes.shards.show.show_lines import example_lines

        print_json_lines(example_lines(directory, dataset=dataset, **chosen))
        return
    from orca_recipes.catalogue import Catalogue
    from orca_recipes.explain.two_views import view_teller
    from orca_recipes.shards.show.show import show

    teller = view_teller(directory, Catalogue()) if views else None
    show(directory, out=sys.stdout, raw=raw, views=teller, dataset=dataset, **chosen)


def _show_listed(option: str, directory: Path, dataset: str | None, as_json: bool, chosen: Mapping[str, Any]) -> None:
    from orca_recipes.shards.show import show_lines

    if any(value is not None for value in chosen.values()):
        what = "lost rows" if option == "--rejected" else "untrained answers"
        raise click.UsageError(f"{option} lists all {what}: --row, --task and --example choose examples")
    lines, text = {
        "--rejected": (show_lines.rejected_lines, show_lines.rejected_text),
        "--untrained": (show_lines.untrained_lines, show_lines.untrained_text_lines),
    }[option]
    if as_json:
        print_json_lines(lines(directory, dataset=dataset))
        return
    for line in text(directory, dataset=dataset):
        print_text(line)


@click.command()
@LAZY_BUILD
@click.option("--example", metavar="ID", help="The example with this id, or whose id begins so.")
@click.option("--row", type=click.IntRange(min=0), metavar="R", help="This row of the build, from 0.")
@click.option(
    "--at",
    type=click.IntRange(min=0),
    metavar="TOKEN",
    help="With --row: the token at this place in it, from 0.  [default: 0]",
)
@click.option("--source", metavar="FILE:LINE", help="Forward from here; COLLECTION/FILE:LINE tells files apart.")
@STORE
@TRACES
@JSON
def explain(
    directory: Path,
    example: str | None,
    row: int | None,
    at: int | None,
    source: str | None,
    store: Path,
    traces: Path | None,
    as_json: bool,
) -> None:
    """Say why a row is where it is: one of --example, --row (with --at), or --source.

    From an example or a token back to the place it was read from, with all that happened on the way; or from a source's
    place forward, to where its row went or why it was rejected. FILE is the name that `show` prints; where rows are
    generated, COLLECTION:N means the Nth. What a draw left out is told while the store holds it, and what a teacher
    was asked, while the store or the traces do.
    """
    from orca_recipes.explain.explain import explain_example, explain_place, explain_token

    if [example is not None, row is not None, source is not None].count(True) != 1 or (row is None and at is not None):
        raise click.UsageError("give one of --example ID, --row R (with --at TOKEN), or --source FILE:LINE")
    if example is not None:
        explanation = explain_example(directory, example, store=store, traces=traces)
    elif row is not None:
        explanation = explain_token(directory, row, at or 0, store=store, traces=traces)
    else:
        assert source is not None
        explanation = explain_place(directory, source, store=store, traces=traces)
    if as_json:
        print_json(explanation.as_json())
    else:
        print_text(str(explanation))
