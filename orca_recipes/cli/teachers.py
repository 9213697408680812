"""Commands for answers that are bought: look at a request, collect, and the traces themselves."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
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
)
from orca_recipes.cli.trusted_hosts import ask_where_new
from orca_recipes.counted import counted
from orca_recipes.errors import UserError

if TYPE_CHECKING:
    from orca_recipes.traces.trace_store import TraceStore


DATES = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"])


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
    from orca_recipes.progress import progress_for
    from orca_recipes.run.build import bench_of, prepare
    from orca_recipes.run.show_request import beside_text, requests_for, sent

    asked = ask(load(recipe, profile, overrides), **options)
    if send:
        ask_where_new(asked.loaded.recipe)
    with progress_for() as progress:
        bench = bench_of(asked, prepare(asked), progress)
        found = requests_for(bench, example)
        if send:
            found = sent(bench, found)
    if as_json:
        print_json({"requests": [one.as_json() for one in found]})
        return
    for one in found:
        print_text(one.title)
        print_text(json.dumps(one.body, indent=1, ensure_ascii=False))
        if one.stored is not None:
            for name, text in beside_text(one.stored).items():
                print_text(f"{name}: {text}")
            print_text(f"answer ({one.stored.finish_reason}): {one.stored.text or one.stored.reason or ''}")


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
@JSON
def collect(recipe: Path, profile: str | None, overrides: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Collect the answers that a recipe needs; build nothing."""
    from orca_recipes.preview.bill import sent_by_recipe
    from orca_recipes.progress import progress_for
    from orca_recipes.run.build import bench_of, prepare
    from orca_recipes.run.collect import collected

    asked = ask(load(recipe, profile, overrides), **options)
    for sent in sent_by_recipe(asked.loaded.recipe):
        print_text(str(sent), err=True)
    ask_where_new(asked.loaded.recipe)
    with progress_for() as progress:
        found = collected(bench_of(asked, prepare(asked, progress.say), progress))
    if as_json:
        asked_now, twice = sum(one.asked for one in found), sum(one.maybe_billed_twice for one in found)
        stored = sum(one.requests for one in found) - asked_now
        counts = {"stored": stored, "asked": asked_now, "maybe_billed_twice": twice}
        print_json({"collected": [asdict(one) for one in found], "answers": counts})
        return
    for one in found:
        print_text(str(one))


@click.group()
def traces() -> None:
    """Look at the trace store: answers that were bought, shared by all recipes."""


@traces.command()
@TRACES
@JSON
def stats(traces: Path | None, as_json: bool) -> None:
    """Show what is stored: answers and tokens by model, cut and damaged lines. Reads every byte."""
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
    from orca_recipes.store.disk_faults import writing
    from orca_recipes.traces.exchange import export_traces

    with _store(traces) as store, writing(file.parent, f"the file {file}"):
        number = export_traces(store, file)
    if as_json:
        print_json({"file": str(file), "traces": number})
        return
    print_text(f"{file}: {counted(number, 'trace')}")


@traces.command("import")
@TRACES
@click.option("--replace", is_flag=True, help="Drop all other stored answers to the requests that FILEs answer.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@JSON
def import_command(traces: Path | None, replace: bool, files: tuple[Path, ...], as_json: bool) -> None:
    """Take the traces of FILEs (.jsonl or .parquet, as `export` writes them).

    What was bought here stands before them, unless they are to --replace it. A trace that holds what cannot be, or
    whose key is not that of its question, is refused. Exit status 1 where any was.
    """
    from orca_recipes.store.disk_faults import KEPT, writing
    from orca_recipes.traces.exchange import import_traces

    told = []
    with _store(traces) as store, writing(store.root, f"the trace store {store.name}", kept=KEPT):
        for file in files:
            found = import_traces(store, file, replace=replace)
            told.append({"file": str(file), **asdict(found)})
            if not as_json:
                print_text(f"{file}: {found}")
            for reason in found.reasons:
                print_text(f"  {file}:{reason}", err=True)
    if as_json:
        print_json({"files": told})
    if any(found["refused"] for found in told):
        raise SystemExit(1)


@traces.command("drop")
@TRACES
@click.option("--model", metavar="PATTERN", help="Answers of models whose name matches (*, ? and [...]).")
@click.option("--reason", metavar="PATTERN", help='Rejections whose reason matches: empty, "content filter", *.')
@click.option("--finish", metavar="PATTERN", help="Answers that ended this way: stop, length.")
@click.option("--endpoint", metavar="PATTERN", help="Answers of endpoints whose name matches.")
@click.option("--since", type=DATES, help="Answers from this time on (UTC).")
@click.option("--before", type=DATES, help="Answers from before this time (UTC).")
@click.option("--key", "keys", metavar="HEX", multiple=True, help="Answers to the request whose key begins so.")
@click.option("--recipe", type=click.Path(path_type=Path, dir_okay=False), help="Answers to what this recipe asks.")
@STORE
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON
def drop_command(
    traces: Path | None,
    recipe: Path | None,
    store: Path,
    since: datetime | None,
    before: datetime | None,
    keys: tuple[str, ...],
    yes: bool,
    as_json: bool,
    **patterns: str | None,
) -> None:
    """Drop stored answers that match all of the options given.

    Says what it would drop, and asks first. The next build that needs them asks their questions again. Nothing is
    taken out of the files, so builds that run meanwhile go on.
    """
    from orca_recipes.store.disk_faults import writing
    from orca_recipes.traces.chosen_answers import Choice, chosen

    if not (any((*patterns.values(), since, before, keys)) or recipe is not None):
        raise UserError("traces drop: say which answers, as in  --reason empty  (--help lists the options)")
    requests = None if recipe is None else _requests(recipe, traces, store)
    choice = Choice(
        **patterns, since=_seconds(since), before=_seconds(before), keys=tuple(map(str.lower, keys)), requests=requests
    )
    with _store(traces) as opened, writing(opened.root, f"the trace store {opened.name}"):
        found = chosen(opened, choice)
        for line in found.lines():
            print_text(line, err=as_json)
        # Without a terminal nobody can answer the question below.
        if found.places and not yes and not sys.stdin.isatty():
            raise UserError("traces drop: nothing is dropped without a word; say --yes")
        is_meant = bool(found.places) and (yes or click.confirm("Drop them?", err=as_json))
        if is_meant:
            opened.drop(found.places)
    if as_json:
        print_json({**found.as_json(), "dropped": is_meant})
    elif is_meant:
        print_text(f"{opened.name}: {counted(len(found.places), 'trace')} dropped")


def _requests(recipe: Path, traces: Path | None, store: Path) -> frozenset[bytes]:
    """Return the keys of all requests of a recipe."""
    from orca_recipes.progress import progress_for
    from orca_recipes.run.build import bench_of, prepare
    from orca_recipes.run.collect import requested

    asked = ask(load(recipe, None, ()), traces=traces, store=store, out=None, limit=None, rehash=False)
    with progress_for() as progress:
        return requested(bench_of(asked, prepare(asked, progress.say), progress))


def _seconds(time: datetime | None) -> float | None:
    return None if time is None else time.replace(tzinfo=UTC).timestamp()


def _store(root: Path | None) -> TraceStore:
    from orca_recipes.traces.trace_store import TraceStore, default_root

    return TraceStore(root or default_root())
