"""`mixing`: how the tasks of a build are mixed within its rows, beside what a random order would give."""

import json
from pathlib import Path
from typing import Any

import click
import numpy as np
import polars as pl

from orca_recipes.shards.manifest import read_manifest


@click.command()
@click.argument("build", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def mixing(build: Path, as_json: bool) -> None:
    """Measure how the tasks of a build are mixed within rows."""
    found = mixed(build)
    told = json.dumps(found) if as_json else "\n".join(f"{name}: {value:.4f}" for name, value in found.items())
    click.echo(told)


def mixed(build: Path) -> dict[str, Any]:
    """Of neighbours in a row, the part that is of one task; what chance gives, by the counts of tasks; and the fill.

    squares_spread: of the sum of squared lengths of a row's examples, which attention costs, over rows: its standard
    deviation over its mean.
    """
    manifest = read_manifest(build)
    same = chance = pairs = 0.0
    squares = []
    for name in manifest.datasets:
        paths = sorted((build / name).glob("*.records.parquet"))
        columns = ["collection", "task", "row", "place", "tokens"]
        shards = [pl.read_parquet(path, columns=columns).sort("row", "place") for path in paths]
        codes, counts = _tasks(shards)
        total, start = int(counts.sum()), 0
        expected = float((counts * (counts - 1)).sum()) / max(total * (total - 1), 1)
        for shard in shards:
            row, task = shard["row"].to_numpy(), codes[start : start + shard.height]
            start += shard.height
            inside = row[1:] == row[:-1]
            same += float((inside & (task[1:] == task[:-1])).sum())
            chance += expected * float(inside.sum())
            pairs += float(inside.sum())
            squares.append(np.bincount(row, weights=shard["tokens"].to_numpy().astype(np.float64) ** 2))
    costs = np.concatenate(squares)
    tokens = sum(counts.tokens for counts in manifest.datasets.values())
    rows = sum(counts.rows for counts in manifest.datasets.values())
    return {
        "same_task_neighbours": same / pairs if pairs else 0.0,
        "by_chance": chance / pairs if pairs else 0.0,
        "ratio": same / chance if chance else 0.0,
        "fill": tokens / (rows * manifest.row_tokens),
        "squares_spread": float(costs.std() / costs.mean()),
    }


def _tasks(shards: list[pl.DataFrame]) -> tuple[np.ndarray, np.ndarray]:
    """A number for each example's task, in the order of shards, and how many examples each has."""
    names = pl.concat([shard.select("collection", "task") for shard in shards])
    known = names.unique(maintain_order=True).with_row_index("code")
    codes = names.join(known, on=["collection", "task"], how="left", maintain_order="left")["code"].to_numpy()
    return codes, np.bincount(codes).astype(np.int64)
