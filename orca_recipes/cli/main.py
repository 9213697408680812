"""The command `orca-recipe`.

Nothing heavy is imported before a command needs it, so that `--help`, `check` and a build with nothing to do answer at
once. A user's mistake is one sentence and exit status 2, a failure one sentence and 1; `--traceback` shows the rest.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from orca_recipes import __version__
from orca_recipes.cli.models import export_hf, import_hf
from orca_recipes.cli.options import (
    BUILD,
    JSON,
    STORE,
    TRACES,
    ask,
    load,
    print_json,
    print_json_lines,
    print_text,
    recipe_options,
    store_options,
    warn,
    with_line,
)
from orca_recipes.cli.teachers import ask_command, collect, traces
from orca_recipes.cli.train import sample, train
from orca_recipes.counted import counted
from orca_recipes.errors import OrcaError, RecipeError

if TYPE_CHECKING:
    from orca_recipes.shards.checks.report import Report

_OBJECTS_A_COLLECTION = 200_000


class _Group(click.Group):
    """Turns every fault into a sentence and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except OrcaError as error:
            _fail(ctx, with_line(ctx, str(error)), error.exit_status)
        except KeyboardInterrupt:
            _stop(ctx)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        except OSError as error:
            _fail(ctx, _told(error), 1)
        except Exception as error:
            _fail(ctx, f"orca-recipe failed: {type(error).__name__}: {error} (--traceback shows where)", 1)


def _fail(ctx: click.Context, sentence: str, status: int) -> NoReturn:
    if ctx.params.get("traceback"):
        print_text(traceback.format_exc(), err=True)
    print_text(sentence, err=True)
    sys.exit(status)


def _stop(ctx: click.Context) -> NoReturn:
    try:
        _fail(ctx, "stopped; what was finished is kept: run the same command again to go on", 130)
    finally:
        if any(thread.daemon for thread in threading.enumerate()):
            # A stage that is still deep in a library would meet an interpreter that is being taken down, and might
            # crash: the process ends as a whole, which the store survives at any moment.
            with suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(130)


def _told(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}; what was finished is kept: mend this and run the same command again"


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="orca-recipe")
@click.option("--traceback", is_flag=True, help="Show where in the program a fault was raised.")
def main(traceback: bool) -> None:
    """Compile instruction-tuning data: one recipe becomes packed Megatron shards.

    \b
    orca-recipe check recipe.toml     say what is wrong with a recipe, all at once
    orca-recipe plan recipe.toml      what a build would do, and why
    orca-recipe build recipe.toml     build it (again: only what changed)
    orca-recipe show build/NAME       look at rows
    orca-recipe explain build/NAME    why a row is where it is, and where a source's row went
    orca-recipe verify build/NAME     prove that nothing is damaged
    orca-recipe kinds                 what a recipe can choose from
    orca-recipe import-hf MODEL RUN   a Hugging Face model to train on, and export-hf back
    """
    # Parts are what runs side by side: more threads inside a process cost CPU and gain nothing. Read when polars and
    # numpy load; the threads of numpy's linear algebra, which nothing here needs, wait by spinning.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    # Whoever starts a process of Python, we or a library: modules that lie in the current folder do not run in it.
    os.environ["PYTHONSAFEPATH"] = "1"
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Imports and a tokenizer's JSON are a million objects and no garbage: looking through them again and again was a
    # tenth of a short command.
    gc.set_threshold(_OBJECTS_A_COLLECTION, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)  # nor when all of it goes anyway: a sixth of a second


@main.command()
@recipe_options
@store_options
@TRACES
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Processes.  [default: one a core]")
@click.option("--locked", is_flag=True, help="Refuse to build anything but what the lock pins.")
@JSON
def build(recipe: Path, profile: str | None, overrides: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Build a recipe into packed shards.

    Finished stages are kept in the store: building again does only what changed. The lock is written beside the recipe
    when there is none, or when what it pins changed; with --set or --limit it is left alone.
    """
    from orca_recipes.progress import progress_for
    from orca_recipes.run.answer_counts import told as answers_told
    from orca_recipes.run.build import made
    from orca_recipes.run.work.heap import keep_heap

    keep_heap()
    asked = ask(load(recipe, profile, overrides), **options)
    warn(asked.loaded)
    with progress_for() as progress:
        found = made(asked, progress)
    if as_json:
        print_json(found.as_json())
        return
    from orca_recipes.run.closing_table import closing_table

    manifest, fresh = found.manifest, found.fresh
    print_text(closing_table(manifest))
    for name, dataset in manifest.datasets.items():
        print_text(
            f"{asked.directory / name}: {counted(len(dataset.shards), 'shard')}, {counted(dataset.rows, 'row')} of "
            f"{counted(manifest.row_tokens, 'token')}, {counted(dataset.examples, 'example')}, "
            f"{counted(dataset.tokens, 'token')} ({dataset.trained_tokens:,} trained), {float(dataset.fill):.2%} full"
        )
    if fresh:
        for line in answers_told(manifest):
            print_text(line)
    digests = f"data {manifest.data_digest}, manifest {manifest.digest}"
    print_text(f"{asked.directory}: {'built' if fresh else 'nothing to do'}, {digests}")


@main.command()
@recipe_options
@store_options
@TRACES
@JSON
@click.option("--declared", "offline", is_flag=True, help="Only what is known without reading: no fingerprints.")
@click.option("--scan", "scanned", is_flag=True, help="Read the sources and draw first: exact counts, nothing asked.")
def plan(
    recipe: Path,
    profile: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
    offline: bool,
    scanned: bool,
    **options: Any,
) -> None:
    """Show what a build would do: stages, what is cached, what will run and why, and how many rows are taken.

    Where answers are bought, its questions are made ready (the build uses them again): how many answers are stored, how
    many must be bought, and what they may cost. Where data would have to be loaded first, it plans from known sizes.
    """
    from orca_recipes.preview.bill import billed
    from orca_recipes.preview.first_rows import trials
    from orca_recipes.preview.preview import declared, preview
    from orca_recipes.progress import Progress
    from orca_recipes.run.build import bench_of, prepare, scan
    from orca_recipes.run.pinning.lock_file import lock_path, read_lock
    from orca_recipes.run.pinning.moving_names import sources_away

    loaded, bill = load(recipe, profile, overrides), None
    warned = warn(loaded)
    if offline:
        shown = declared(loaded.recipe, limit=options["limit"])
    else:
        asked = ask(loaded, **options)
        lock = read_lock(lock_path(loaded.path, loaded.profile))
        away = [] if scanned else sources_away(loaded.recipe, lock)
        for sentence in away:
            print_text(f"planned from known sizes: {sentence}", err=True)
        if away:
            shown = declared(loaded.recipe, limit=options["limit"])
        else:
            prepared = prepare(asked)
            if scanned:
                from orca_recipes.progress import progress_for

                with progress_for() as progress:
                    scan(asked, prepared, progress)
            bill = billed(asked, prepared)
            shown = preview(asked, prepared, trials(bench_of(asked, prepared, Progress())))
    if as_json:
        print_json({**shown.as_json(), "answers": bill.as_json() if bill else None, "warnings": warned})
    else:
        print_text("\n\n".join(map(str, filter(None, (shown, bill)))))


@main.command()
@recipe_options
@store_options
@JSON
def lock(recipe: Path, profile: str | None, overrides: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Pin every moving name of a recipe: files, tokenizer, template, versions. Writes RECIPE's .lock beside it."""
    from orca_recipes.run.build import lock_recipe

    path, changed = lock_recipe(ask(load(recipe, profile, overrides), **options))
    if as_json:
        print_json({"lock": str(path), "changed": changed})
        return
    for line in changed:
        print_text(line)
    print_text(f"{path}: locked")


@main.command()
@recipe_options
@JSON
def check(recipe: Path, profile: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Say what is wrong with a recipe: all faults at once, each with its line. Reads nothing but the recipe."""
    try:
        loaded = load(recipe, profile, overrides)
    except RecipeError as error:
        if as_json:
            print_json({"recipe": str(recipe), "sound": False, "faults": [asdict(fault) for fault in error.faults]})
        raise
    found = warn(loaded)
    if as_json:
        names: dict[str, Any] = {"warnings": found}
        names |= {"collections": list(loaded.recipe.collections), "datasets": list(loaded.recipe.datasets)}
        print_json({"recipe": str(recipe), "sound": True, "faults": [], **names})
        return
    collections = counted(len(loaded.recipe.collections), "collection")
    print_text(f"{recipe}: a sound recipe ({collections}, {counted(len(loaded.recipe.datasets), 'dataset')})")


@main.command()
@click.argument("name", required=False)
@JSON
def kinds(name: str | None, as_json: bool) -> None:
    """List the kinds that recipes can choose, with the package that offers each; NAME shows one with its options."""
    from orca_recipes.catalogue import Catalogue
    from orca_recipes.cli.kind_pages import kind_page, kinds_json, list_page

    catalogue = Catalogue()
    if as_json:
        print_json(kinds_json(catalogue, name))
        return
    print_text(kind_page(catalogue, name) if name else list_page(catalogue))


@main.command()
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


@main.command()
@BUILD
@click.option(
    "--sample",
    type=click.FloatRange(min=0, max=1, min_open=True),
    metavar="SHARE",
    help="For very large builds: no digests of files, and tokens and text of this share of the rows (0.01).",
)
@JSON
def verify(directory: Path, sample: float | None, as_json: bool) -> None:
    """Prove a build from its directory alone: digests, the format, every count, the text of every trained answer.

    What was not checked is said. Exit status 1 where something is wrong.
    """
    from orca_recipes.catalogue import Catalogue
    from orca_recipes.progress import progress_for
    from orca_recipes.prove.prove import prove
    from orca_recipes.run.work.heap import keep_heap

    keep_heap()
    with progress_for() as progress:
        report = prove(directory, kinds=Catalogue(), sample=sample, progress=progress)
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


@main.command()
@BUILD
@click.option("--row", type=click.IntRange(min=0), metavar="R", help="This row, counted through the whole build.")
@click.option("--task", metavar="TASK", help="The first examples of a task, or of collection/task.")
@click.option("--example", metavar="ID", help="The example with this id, or whose id begins so.")
@click.option("--raw", is_flag=True, help="Token ids and segments instead of text.")
@click.option("--views", is_flag=True, help="What the teacher was asked beside what the student sees.")
@click.option("--rejected", is_flag=True, help="The rows that were lost: where each stood, which stage lost it, why.")
@click.option("--dataset", metavar="NAME", help="Nothing of other datasets.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each example: all of them, without a choice.")
def show(
    directory: Path, raw: bool, views: bool, rejected: bool, dataset: str | None, as_json: bool, **chosen: Any
) -> None:
    """Look at rows: text by role, what is trained, where examples begin, and where each one came from.

    Without options, the first row of each dataset.
    """
    if sum((views, raw, rejected or as_json)) > 1:
        raise click.UsageError("give one of --views, --raw, and --json or --rejected")
    if rejected:
        _show_rejected(directory, dataset, as_json, chosen)
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


def _show_rejected(directory: Path, dataset: str | None, as_json: bool, chosen: Mapping[str, Any]) -> None:
    from orca_recipes.shards.show.show_lines import rejected_lines, rejected_text

    if any(value is not None for value in chosen.values()):
        raise click.UsageError("--rejected lists all lost rows: --row, --task and --example choose examples")
    if as_json:
        print_json_lines(rejected_lines(directory, dataset=dataset))
        return
    for line in rejected_text(directory, dataset=dataset):
        print_text(line)


@main.command()
@BUILD
@click.option("--example", metavar="ID", help="The example with this id, or whose id begins so.")
@click.option("--row", type=click.IntRange(min=0), metavar="R", help="With --at: this row of the build, from 0.")
@click.option("--at", type=click.IntRange(min=0), metavar="TOKEN", help="The token at this place of the row, from 0.")
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
    """Say why a row is where it is: one of --example, --row with --at, or --source.

    From an example or a token back to the place it was read from, with all that happened on the way; or from a source's
    place forward, to where its row went or why it was rejected. FILE is the name that `show` prints; where rows are
    generated, COLLECTION:N means the Nth. What a draw left out, and ranks in draws, only the store knows; what a
    teacher was asked, the store and the traces.
    """
    from orca_recipes.explain.explain import explain_example, explain_place, explain_token

    if [example is not None, row is not None and at is not None, source is not None].count(True) != 1 or (
        (row is None) != (at is None)
    ):
        raise click.UsageError("give one of --example ID, --row R with --at TOKEN, or --source FILE:LINE")
    if example is not None:
        explanation = explain_example(directory, example, store=store, traces=traces)
    elif row is not None and at is not None:
        explanation = explain_token(directory, row, at, store=store, traces=traces)
    else:
        assert source is not None
        explanation = explain_place(directory, source, store=store, traces=traces)
    if as_json:
        print_json(explanation.as_json())
    else:
        print_text(str(explanation))


@main.command()
@STORE
@click.option("--all", "keep_nothing", is_flag=True, help="Remove every stage, also those that builds would use again.")
@JSON
def clean(store: Path, keep_nothing: bool, as_json: bool) -> None:
    """Free the store of stages that no build directory uses any more. Builds themselves are never touched."""
    from orca_recipes.progress import progress_for
    from orca_recipes.store.store import Store

    with progress_for() as progress:
        removed, freed = Store(store).clean(keep_nothing=keep_nothing, say=progress.say)
    if as_json:
        print_json({"store": str(store), "stages": removed, "bytes": freed})
        return
    print_text(f"{store}: {counted(removed, 'stage')} removed, {freed / 1e6:.1f} MB freed")


main.add_command(import_hf)
main.add_command(export_hf)
main.add_command(ask_command)
main.add_command(collect)
main.add_command(traces)
main.add_command(train)
main.add_command(sample)
