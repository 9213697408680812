"""The commands of a recipe: check, plan, lock, build, and clean of what builds left in the store."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orca_recipes.cli.options import (
    JSON,
    STORE,
    TRACES,
    ask,
    load,
    print_json,
    print_text,
    recipe_options,
    store_options,
    warn,
)
from orca_recipes.cli.trusted_hosts import ask_where_new
from orca_recipes.counted import counted
from orca_recipes.errors import RecipeError, SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orca_recipes.contract.kinds import Source
    from orca_recipes.recipe.load import LoadedRecipe
    from orca_recipes.recipe.model import Recipe

# A value is a line of a table: the whole text of a system message would push the origins out of sight.
_SHOWN = 60


@click.command()
@recipe_options
@store_options
@TRACES
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that work at once.  [default: one for each core]",
)
@click.option("--locked", is_flag=True, help="Refuse to build anything but what the lock pins.")
@JSON
def build(recipe: Path, profile: str | None, overrides: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Build a recipe into packed shards.

    Finished stages are kept in the store: building again does only what changed. The lock is written beside the recipe
    when there is none, or when what it pins changed; with --set or --limit it is left alone.
    """
    asked = ask(load(recipe, profile, overrides), **options)
    # Behind the fork that `ask` may make: what is imported before it is copied there page by page.
    from orca_recipes.progress import progress_for
    from orca_recipes.run.answer_counts import told as answers_told
    from orca_recipes.run.build import made
    from orca_recipes.run.work.heap import keep_heap

    keep_heap()
    warn(asked.loaded)
    ask_where_new(asked.loaded.recipe)
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
        if found.maybe_billed_twice:
            print_text(
                f"{counted(found.maybe_billed_twice, 'request')} may be billed twice: nothing came back at first"
            )
    digests = f"data {manifest.data_digest}, manifest {manifest.digest}"
    print_text(f"{asked.directory}: {'built' if fresh else 'nothing to do'}, {digests}")
    if fresh:
        lost = any(stage.rejected for counts in manifest.datasets.values() for stage in counts.stages)
        every = f"; every row that was lost: orca-recipe show {asked.directory} --rejected" if lost else ""
        print_text(f"look at it: orca-recipe show {asked.directory}{every}")


@click.command()
@recipe_options
@store_options
@TRACES
@JSON
@click.option("--declared", "offline", is_flag=True, help="Only what is known without reading: no fingerprints.")
@click.option("--origins", is_flag=True, help="Say of every value first which line it comes from.")
@click.option("--scan", "scanned", is_flag=True, help="Read the sources and draw first: exact counts, nothing asked.")
def plan(
    recipe: Path,
    profile: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
    offline: bool,
    origins: bool,
    scanned: bool,
    **options: Any,
) -> None:
    """Show what a build would do: its stages, cached or to run and why, and the rows taken.

    Where answers are bought, it prepares the questions (the build uses them again) and says how many answers are
    stored, how many must be bought, and what they may cost. Data that are not downloaded yet are planned from their
    known sizes.
    """
    if offline and scanned:
        raise click.UsageError("--declared reads nothing and --scan reads everything: give one of them")
    from orca_recipes.front.planned import planned
    from orca_recipes.progress import progress_for

    loaded = load(recipe, profile, overrides)
    warn(loaded)
    if origins and not as_json:
        print_text("\n".join(_origin_lines(loaded)) + "\n")
    found = planned(ask(loaded, **options), declared=offline, scan=scanned, progress=progress_for)
    for sentence in found.away:
        print_text(f"planned from known sizes: {sentence}", err=True)
    if as_json:
        told = [
            {"path": path, "value": value, "file": origin.file, "line": origin.line}
            for path, value, origin in loaded.origins()
        ]
        print_json(found.as_json() | ({"origins": told} if origins else {}))
    else:
        print_text(str(found))


def _origin_lines(loaded: LoadedRecipe) -> list[str]:
    """List every value with its file and line, in columns."""
    from orca_recipes.text_table import in_columns

    lines = []
    for path, value, origin in loaded.origins():
        text = json.dumps(value, ensure_ascii=False)
        shown = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
        lines.append((path, shown, f"{origin.file}:{origin.line}" if origin.line else origin.file))
    return in_columns(lines)


@click.command()
@recipe_options
@store_options
@click.option("--explain", is_flag=True, help="Write nothing: say part by part what would change, and why.")
@JSON
def lock(
    recipe: Path, profile: str | None, overrides: tuple[str, ...], explain: bool, as_json: bool, **options: Any
) -> None:
    """Pin every moving name of a recipe: files, tokenizer, template, versions. Writes RECIPE's .lock beside it."""
    from orca_recipes.run.build import explain_lock, lock_recipe

    if explain:
        found = explain_lock(ask(load(recipe, profile, overrides), **options))
        if as_json:
            print_json({"changes": [change.as_json() for change in found]})
        else:
            print_text("\n".join(map(str, found)) or "nothing would change")
        return

    path, changed = lock_recipe(ask(load(recipe, profile, overrides), **options))
    if as_json:
        print_json({"lock": str(path), "changed": changed})
        return
    for line in changed:
        print_text(line)
    print_text(f"{path}: locked")


@click.command()
@recipe_options
@JSON
def check(recipe: Path, profile: str | None, overrides: tuple[str, ...], as_json: bool) -> None:
    """Say every fault of a recipe at once, each with its line.

    Where the data are here, it looks at their first rows, and says what they seem to be where the recipe would not
    read them whole. Data that are not here are no fault.
    """
    try:
        loaded = load(recipe, profile, overrides)
    except RecipeError as error:
        if as_json:
            print_json({"recipe": str(recipe), "sound": False, "faults": [asdict(fault) for fault in error.faults]})
        raise
    found = warn(loaded)
    looked = _faults_of_data(loaded.recipe)
    for sentence in looked:
        print_text(f"warning: {loaded.with_line(sentence)}", err=True)
    if as_json:
        names: dict[str, Any] = {"warnings": found, "data": looked}
        names |= {"collections": list(loaded.recipe.collections), "datasets": list(loaded.recipe.datasets)}
        print_json({"recipe": str(recipe), "sound": True, "faults": [], **names})
        return
    collections = counted(len(loaded.recipe.collections), "collection")
    print_text(f"{recipe}: a sound recipe ({collections}, {counted(len(loaded.recipe.datasets), 'dataset')})")


def _faults_of_data(recipe: Recipe) -> list[str]:
    """List the faults in the first rows of each collection, as sentences; data that is not here is passed over."""
    from orca_recipes.run.work.limited import LIMITED

    sources = dict(recipe.collections)
    try:
        return LIMITED.do(_faults_of, sources, what="the first rows", failure=SourceError)
    except SourceError:
        pass  # one of them: which
    found = []
    for name, source in sources.items():
        try:
            found += LIMITED.do(_faults_of, {name: source}, what="its first rows", failure=SourceError)
        except SourceError as fault:
            found.append(f"collections.{name}: {fault}")
    return found


def _faults_of(sources: Mapping[str, Source]) -> list[str]:
    found = []
    for name, source in sources.items():
        try:
            if source.away(versions={}) is None:
                found += [f"collections.{name}: {fault}" for fault in source.look().faults]
        except SourceError as fault:
            found.append(f"collections.{name}: {fault}")
    return found


@click.command()
@STORE
@click.option("--all", "keep_nothing", is_flag=True, help="Remove every stage, also those that builds would use again.")
@JSON
def clean(store: Path, keep_nothing: bool, as_json: bool) -> None:
    """Free the store of stages that no build directory uses any more. Builds themselves are never touched."""
    from orca_recipes.progress import progress_for
    from orca_recipes.store.shared_store import store_at

    with progress_for() as progress:
        opened = store_at(store)
        removed, freed = opened.clean(keep_nothing=keep_nothing, say=progress.say)
    if as_json:
        print_json({"store": opened.name, "stages": removed, "bytes": freed})
        return
    print_text(f"{opened.name}: {counted(removed, 'stage')} removed, {freed / 1e6:.1f} MB freed")
