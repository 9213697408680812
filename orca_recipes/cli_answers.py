"""Commands for answers that are bought: look at a request, collect, and the traces themselves."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orca_recipes.cli_parts import JSON, TRACES, ask, load, print_json, print_text, recipe_options, store_options
from orca_recipes.counted import counted

if TYPE_CHECKING:
    from orca_recipes.traces.store import TraceStore


@click.command("ask")
@recipe_options
@store_options
@TRACES
@click.option("--example", metavar="ID", required=True, help="The example with this id, or whose id begins so.")
@click.option("--send", is_flag=True, help="Send what is not stored yet, keep the answers and print them.")
@JSON
def ask_command(
    recipe: Path,
    profile: str | None,
    overrides: tuple[str, ...],
    example: str,
    send: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Print the exact requests of one example, or send them.

    An answer that is stored is printed, and not asked for again.
    """
    from orca_recipes.run.ask_one import requests_for, sent
    from orca_recipes.run.build import execution_of, prepare
    from orca_recipes.run.progress import progress_for

    asked = ask(load(recipe, profile, overrides), **options)
    with progress_for() as progress:
        execution = execution_of(asked, prepare(asked), progress)
        found = requests_for(execution, example)
        if send:
            found = sent(execution, found)
    if as_json:
        print_json({"requests": [one.as_json() for one in found]})
        return
    for one in found:
        print_text(one.title)
        print_text(json.dumps(one.body, indent=1, ensure_ascii=False))
        if one.stored is not None:
            print_text(f"answer ({one.stored.finish_reason}): {one.stored.text or one.stored.reason}")


@click.command()
@recipe_options
@store_options
@TRACES
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Processes.  [default: one a core]")
@JSON
def collect(recipe: Path, profile: str | None, overrides: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Collect the answers that a recipe needs; build nothing."""
    from orca_recipes.run.build import execution_of, prepare
    from orca_recipes.run.collect_only import collected
    from orca_recipes.run.progress import progress_for

    asked = ask(load(recipe, profile, overrides), **options)
    with progress_for() as progress:
        found = collected(execution_of(asked, prepare(asked, progress.say), progress))
    if as_json:
        print_json({"collected": [asdict(one) for one in found]})
        return
    for one in found:
        print_text(str(one))


@click.group()
def traces() -> None:
    """The trace store: answers that were bought, shared by all recipes."""


@traces.command()
@TRACES
@JSON
def stats(traces: Path | None, as_json: bool) -> None:
    """What is stored: answers and tokens by model, cut and damaged lines. Reads every byte."""
    from orca_recipes.traces.stats import stats

    with _store(traces) as store:
        found = stats(store)
    if as_json:
        print_json(found.as_json())
        return
    for line in found.lines():
        print_text(line)


@traces.command("export")
@TRACES
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@JSON
def export_command(traces: Path | None, file: Path, as_json: bool) -> None:
    """Write all traces into FILE, named .jsonl or .parquet: questions and answers, to look at or to carry elsewhere."""
    from orca_recipes.run.disk import writing
    from orca_recipes.traces.exchange import export_traces

    with _store(traces) as store, writing(file.parent, f"the file {file}"):
        number = export_traces(store, file)
    if as_json:
        print_json({"file": str(file), "traces": number})
        return
    print_text(f"{file}: {counted(number, 'trace')}")


@traces.command("import")
@TRACES
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@JSON
def import_command(traces: Path | None, files: tuple[Path, ...], as_json: bool) -> None:
    """Take the traces of FILEs (.jsonl or .parquet, as `export` writes them).

    A trace whose key is not that of its question is refused. Exit status 1 where any was.
    """
    from orca_recipes.run.disk import writing
    from orca_recipes.traces.exchange import import_traces

    told = []
    with _store(traces) as store, writing(store.root, f"the trace store {store.root}"):
        for file in files:
            found = import_traces(store, file)
            told.append({"file": str(file), **asdict(found)})
            if not as_json:
                print_text(f"{file}: {found.taken:,} taken, {found.known:,} there already, {found.refused:,} refused")
            for reason in found.reasons:
                print_text(f"  {file}:{reason}", err=True)
    if as_json:
        print_json({"files": told})
    if any(found["refused"] for found in told):
        raise SystemExit(1)


def _store(root: Path | None) -> TraceStore:
    from orca_recipes.traces.store import TraceStore, default_root

    return TraceStore(root or default_root())
