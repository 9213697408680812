"""`plans`: what `plan` costs of recipes with thousands of collections, rules or files."""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import click

from tests.bench.measure import measure
from tests.bench.table import table

_TOKENIZER = Path(__file__).parents[2] / "recipes" / "quickstart" / "tokenizer.json"
_COLUMNS = 'columns = { question = "question", reference = "answer"'


@click.command()
@click.option("--collections", default=5_000, show_default=True, help="A file each.")
@click.option("--rules", default=20_000, show_default=True, help="One for each task of a collection.")
@click.option("--files", default=10_000, show_default=True, help="Of one collection.")
@click.option("--repeat", default=3, show_default=True, help="How often; the least of each is told.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures into this file.")
def plans(collections: int, rules: int, files: int, repeat: int, json_file: Path | None) -> None:
    """Measure `plan` of wide recipes, and a second build of many small files; start-up included."""
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    told: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="plans-", dir=place) as folder:
        here = Path(folder)
        for what, recipe, command in (
            (f"plan, {collections:,} collections", _of_collections(here, collections), "plan"),
            (f"plan, rules of {rules:,} tasks", _of_rules(here, rules), "plan"),
            (f"plan, {files:,} small files", _of_files(here, files), "plan"),
            (f"build again, {files:,} small files", here / "files.toml", "build"),
        ):
            words = [sys.executable, "-m", "orca_recipes.cli", command, recipe.name]
            measure(words, folder=here)
            told[what] = min(measure(words, folder=here).cpu_seconds for _ in range(repeat))
        shutil.rmtree(here / ".orca")
    click.echo(table("wide recipes", ("what", "CPU s"), [(what, f"{took:.2f}") for what, took in told.items()]))
    if json_file is not None:
        json_file.write_text(json.dumps(told))


def _of_collections(folder: Path, count: int) -> Path:
    tables = []
    for number in range(count):
        _write_rows(folder / f"c{number}.jsonl", [number])
        tables.append(
            f'[collections.c{number}]\nkind = "files"\npath = "c{number}.jsonl"\ntask = "t{number}"\n{_COLUMNS} }}'
        )
    return _write(folder / "collections.toml", tables)


def _of_rules(folder: Path, count: int) -> Path:
    _write_rows(folder / "tasks.jsonl", range(count))
    rules = [f'[[rules]]\nwhen = {{ task = "t{number}" }}\nstrategy = "direct"' for number in range(count)]
    return _write(
        folder / "rules.toml",
        [f'[collections.c]\nkind = "files"\npath = "tasks.jsonl"\n{_COLUMNS}, task = "task" }}', *rules],
    )


def _of_files(folder: Path, count: int) -> Path:
    (folder / "many").mkdir()
    for number in range(count):
        _write_rows(folder / "many" / f"{number:06}.jsonl", [number])
    return _write(
        folder / "files.toml", [f'[collections.c]\nkind = "files"\npath = "many/*.jsonl"\n{_COLUMNS}, task = "task" }}']
    )


def _write_rows(path: Path, numbers: range | list[int]) -> None:
    rows = ({"question": f"What is {number}?", "answer": str(number), "task": f"t{number}"} for number in numbers)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def _write(path: Path, tables: list[str]) -> Path:
    head = f'name = "{path.stem}"\nseed = 1'
    ends = f'[tokenizer]\npath = "{_TOKENIZER}"\n[template]\nkind = "chatml"\n[packing]\nrow_tokens = 512'
    path.write_text("\n".join([head, *tables, ends, ""]))
    return path
