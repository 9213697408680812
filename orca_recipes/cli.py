"""The command `orca-recipe`.

Nothing heavy is imported before a command needs it, so that `--help`, `check` and a build with nothing to do answer at
once. A user's mistake is one sentence and exit status 2, a failure one sentence and 1; `--traceback` shows the rest.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from orca_recipes import __version__
from orca_recipes.errors import OrcaError
from orca_recipes.shards.visible import visible

if TYPE_CHECKING:
    from orca_recipes.recipe.load import LoadedRecipe
    from orca_recipes.run.build import Asked
    from orca_recipes.shards.report import Report

Command = TypeVar("Command", bound=Callable[..., Any])

RECIPE = click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
BUILD = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
STORE = click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".orca/store"),
    envvar="ORCA_STORE",
    show_default=True,
    show_envvar=True,
    help="Where finished stages are kept.",
)


class _Group(click.Group):
    """Turns every fault into a sentence and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except OrcaError as error:
            _fail(ctx, str(error), error.exit_status)
        except KeyboardInterrupt:
            _fail(ctx, "stopped; what was finished is kept: run the same command again to go on", 130)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        except OSError as error:
            _fail(ctx, _told(error), 1)
        except Exception as error:
            _fail(ctx, f"orca-recipe failed: {type(error).__name__}: {error} (--traceback shows where)", 1)


def _fail(ctx: click.Context, sentence: str, status: int) -> NoReturn:
    if ctx.params.get("traceback"):
        _print(traceback.format_exc(), err=True)
    _print(sentence, err=True)
    sys.exit(status)


def _print(text: str, *, err: bool = False) -> None:
    """Print what may hold names and texts out of data sets: none of it steers a terminal."""
    click.echo(visible(text, keep="\n\t"), err=err)


def _print_json(value: Any) -> None:
    """In ASCII, so that nothing that steers a terminal is in it, and nothing is changed."""
    click.echo(json.dumps(value, indent=1))


def _told(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}; what was finished is kept: mend this and run the same command again"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


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
    """


def _recipe_options(command: Command) -> Command:
    """What every command that reads a recipe takes."""
    options = [
        RECIPE,
        click.option("--profile", metavar="NAME", help="Merge [profiles.NAME] into the recipe."),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="PATH=VALUE",
            help="Override one value: packing.row_tokens=4096.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _store_options(command: Command) -> Command:
    """What every command that touches the store takes."""
    options = [
        STORE,
        click.option("--out", type=click.Path(path_type=Path), help="The build directory.  [default: build/<name>]"),
        click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Take at most N examples a collection."),
        click.option("--rehash", is_flag=True, help="Read every source file again, changed or not."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _load(recipe: Path, profile: str | None, overrides: tuple[str, ...]) -> LoadedRecipe:
    from orca_recipes.catalogue import Catalogue
    from orca_recipes.recipe.load import load_recipe

    return load_recipe(recipe, catalogue=Catalogue(), profile=profile, overrides=overrides)


def _ask(loaded: LoadedRecipe, *, store: Path, out: Path | None, limit: int | None, rehash: bool, **more: Any) -> Asked:
    from orca_recipes.run.build import Asked
    from orca_recipes.run.store import Store

    name = loaded.recipe.name + (f".{loaded.profile}" if loaded.profile else "") + (f".limit-{limit}" if limit else "")
    workers = more.pop("workers", None) or os.cpu_count() or 1
    return Asked(
        loaded=loaded,
        store=Store(store),
        directory=out or Path("build") / name,
        workers=workers,
        limit=limit,
        rehash=rehash,
        **more,
    )


@main.command()
@_recipe_options
@_store_options
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Processes.  [default: one a core]")
@click.option("--locked", is_flag=True, help="Refuse to build anything but what the lock pins.")
def build(
    recipe: Path, profile: str | None, overrides: tuple[str, ...], workers: int | None, locked: bool, **options: Any
) -> None:
    """Build a recipe into packed shards.

    Finished stages are kept in the store: building again does only what changed. The lock is written beside the recipe
    when there is none, or when what it pins changed; with --set or --limit it is left alone.
    """
    from orca_recipes.run.build import build
    from orca_recipes.run.progress import progress_for

    asked = _ask(_load(recipe, profile, overrides), workers=workers, locked=locked, **options)
    with progress_for() as progress:
        manifest, fresh = build(asked, progress)
    for name, dataset in manifest.datasets.items():
        _print(
            f"{asked.directory / name}: {_counted(len(dataset.shards), 'shard')}, {dataset.rows:,} rows of "
            f"{manifest.row_tokens:,} tokens, {dataset.examples:,} examples, {dataset.tokens:,} tokens "
            f"({dataset.trained_tokens:,} trained), {float(dataset.fill):.2%} full"
        )
    _print(f"{asked.directory}: {'built' if fresh else 'nothing to do'}, {manifest.digest}")


@main.command()
@_recipe_options
@_store_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--declared", "offline", is_flag=True, help="Only what is known without reading: no fingerprints.")
def plan(
    recipe: Path, profile: str | None, overrides: tuple[str, ...], as_json: bool, offline: bool, **options: Any
) -> None:
    """Show what a build would do: stages, what is cached, what will run and why, and how many rows are taken."""
    from orca_recipes.run.build import prepare
    from orca_recipes.run.preview import declared, preview

    loaded = _load(recipe, profile, overrides)
    if offline:
        shown = declared(loaded.recipe, limit=options["limit"])
    else:
        asked = _ask(loaded, **options)
        shown = preview(asked, prepare(asked))
    if as_json:
        _print_json(shown.as_json())
    else:
        _print(str(shown))


@main.command()
@_recipe_options
@_store_options
def lock(recipe: Path, profile: str | None, overrides: tuple[str, ...], **options: Any) -> None:
    """Pin every moving name of a recipe: files, tokenizer, template, versions. Writes RECIPE's .lock beside it."""
    from orca_recipes.run.build import lock_recipe

    path, changed = lock_recipe(_ask(_load(recipe, profile, overrides), **options))
    for line in changed:
        _print(line)
    _print(f"{path}: locked")


@main.command()
@_recipe_options
def check(recipe: Path, profile: str | None, overrides: tuple[str, ...]) -> None:
    """Say what is wrong with a recipe: all faults at once, each with its line. Reads nothing but the recipe."""
    loaded = _load(recipe, profile, overrides)
    collections = _counted(len(loaded.recipe.collections), "collection")
    _print(f"{recipe}: a sound recipe ({collections}, {_counted(len(loaded.recipe.datasets), 'dataset')})")


@main.command()
@click.argument("name", required=False)
def kinds(name: str | None) -> None:
    """List the kinds that recipes can choose, with the package that offers each; NAME shows one with its options."""
    from orca_recipes.catalogue import Catalogue
    from orca_recipes.catalogue_pages import kind_page, list_page

    catalogue = Catalogue()
    _print(kind_page(catalogue, name) if name else list_page(catalogue))


@main.command()
@click.option("--manifest", "of_manifest", is_flag=True, help="The schema of a build's manifest.json instead.")
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
    _print_json(chosen)


@main.command()
@BUILD
@click.option(
    "--sample",
    type=click.FloatRange(min=0, max=1, min_open=True),
    metavar="SHARE",
    help="For very large builds: no digests of files, and tokens and text of this share of the rows (0.01).",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(directory: Path, sample: float | None, as_json: bool) -> None:
    """Prove a build from its directory alone: digests, the format, every count, the text of every trained answer.

    What was not checked is said. Exit status 1 where something is wrong.
    """
    from orca_recipes.catalogue import Catalogue
    from orca_recipes.run.progress import progress_for
    from orca_recipes.run.prove import prove

    with progress_for() as progress:
        report = prove(directory, kinds=Catalogue(), sample=sample, progress=progress)
    if as_json:
        _print_json(report.as_json())
    else:
        _print(_verdict(directory, report))
    if not report.is_sound:
        sys.exit(1)


def _verdict(directory: Path, report: Report) -> str:
    checked = ", ".join(f"{number:,} {what.replace('_', ' ')}" for what, number in report.checked.items())
    verdict = "sound" if report.is_sound else _counted(len(report.findings), "fault")
    lines = [*map(str, report.findings), *(f"not checked: {what}" for what in report.not_checked)]
    return "\n".join([*lines, f"{directory}: {verdict}" + (f" ({checked} checked)" if checked else "")])


@main.command()
@BUILD
@click.option("--row", type=click.IntRange(min=0), metavar="R", help="This row, counted through the whole build.")
@click.option("--task", metavar="TASK", help="The first examples of a task, or of collection/task.")
@click.option("--example", metavar="ID", help="The example with this id, or whose id begins so.")
@click.option("--raw", is_flag=True, help="Token ids and segments instead of text.")
def show(directory: Path, row: int | None, task: str | None, example: str | None, raw: bool) -> None:
    """Look at rows: text by role, what is trained, where examples begin, and where each one came from.

    Without options, the first row of each dataset.
    """
    from orca_recipes.shards.show import show

    show(directory, out=sys.stdout, row=row, task=task, example=example, raw=raw)


@main.command()
@BUILD
@click.option("--example", metavar="ID", help="The example with this id, or whose id begins so.")
@click.option("--row", type=click.IntRange(min=0), metavar="R", help="With --at: this row of the build, from 0.")
@click.option("--at", type=click.IntRange(min=0), metavar="TOKEN", help="The token at this place of the row, from 0.")
@click.option("--source", metavar="FILE:LINE", help="Forward from here; COLLECTION/FILE:LINE tells files apart.")
@STORE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(
    directory: Path,
    example: str | None,
    row: int | None,
    at: int | None,
    source: str | None,
    store: Path,
    as_json: bool,
) -> None:
    """Say why a row is where it is: one of --example, --row with --at, or --source.

    From an example or a token back to the place it was read from, with all that happened on the way; or from a source's
    place forward, to where its row went or why it was rejected. FILE is the name that `show` prints; where rows are
    generated, COLLECTION:N means the Nth. What a draw left out, and ranks in draws, only the store knows.
    """
    from orca_recipes.run.explain import explain_example, explain_place, explain_token

    if [example is not None, row is not None and at is not None, source is not None].count(True) != 1 or (
        (row is None) != (at is None)
    ):
        raise click.UsageError("give one of --example ID, --row R with --at TOKEN, or --source FILE:LINE")
    if example is not None:
        explanation = explain_example(directory, example, store=store)
    elif row is not None and at is not None:
        explanation = explain_token(directory, row, at, store=store)
    else:
        assert source is not None
        explanation = explain_place(directory, source, store=store)
    if as_json:
        _print_json(explanation.as_json())
    else:
        _print(str(explanation))


@main.command()
@STORE
@click.option("--all", "keep_nothing", is_flag=True, help="Remove every stage, also those that builds would use again.")
def clean(store: Path, keep_nothing: bool) -> None:
    """Free the store of stages that no build directory uses any more. Builds themselves are never touched."""
    from orca_recipes.run.progress import progress_for
    from orca_recipes.run.store import Store

    with progress_for() as progress:
        removed, freed = Store(store).clean(keep_nothing=keep_nothing, say=progress.say)
    _print(f"{store}: {removed} stages removed, {freed / 1e6:.1f} MB freed")


if __name__ == "__main__":
    main()
