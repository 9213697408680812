"""What the trainer's data costs: start, rows, memory; and on a GPU, whole steps beside a peer (`train_gpu`).

A build of ten million rows is made by repeating pointers: its indexes say ten million rows, and all point into the
tokens of one small build, so that it costs a few hundred megabytes and starts as a real one would.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from orca_recipes.shards.curriculum import Curriculum, write_curriculum
from orca_recipes.shards.digests import file_digest
from orca_recipes.shards.idx_file import Index, read_index, write_index
from orca_recipes.shards.manifest import Contents, Manifest, read_manifest, sealed, write_manifest
from tests.bench.measure import measure
from tests.bench.train_gpu import check_gpu, compare

HOME = Path(__file__).parents[2]
ROWS_A_SHARD = 1_000_000
SEGMENTS_A_ROW = 4
STEP_SECONDS = (0.1, 0.5, 2.0)


@click.command()
@click.option("--rows", default=10_000_000, show_default=True, help="Rows of the large build.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("build/bench-train"), show_default=True)
@click.option("--gpu", is_flag=True, help="Instead: steps of a 1B-class model on a GPU, beside TRL's.")
@click.option("--peer-python", type=click.Path(path_type=Path), help="With --gpu: an interpreter that has TRL.")
def train(rows: int, folder: Path, gpu: bool, peer_python: Path | None) -> None:
    """The trainer's data path on one core, and its start on a build of ten million rows."""
    if gpu:
        check_gpu(peer_python)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if gpu and peer_python is not None:
        for line in compare(_quickstart(folder), folder.resolve(), peer_python):
            click.echo(line)
    else:
        _measure_data(folder, rows)


def _measure_data(folder: Path, rows: int) -> None:
    small = _quickstart(folder, "--limit", "500")
    large = repeated(small, folder / "large", rows)
    size = sum(path.stat().st_size for path in (large / "main").glob("*.idx"))
    click.echo(f"large build: {rows:,} rows, {SEGMENTS_A_ROW * rows:,} segments, {size / 1e6:,.0f} MB of indexes")
    for name, build in (("quickstart", small), ("large", large)):
        words = [sys.executable, "-m", "tests.bench.train_data", str(build.resolve())]
        # Not through `measure`: looking at a process ten times a second would be part of what a start costs.
        done = subprocess.run(
            words,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(HOME)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        row = told["row_seconds"]
        click.echo(
            f"{name}: start to first batch {told['start_seconds']:.2f} s wall, {told['start_cpu']:.2f} s CPU, "
            f"{told['start_megabytes_from_disk']:.0f} MB from disk, {told['start_waits']} times put off the core, "
            f"load {os.getloadavg()[0]:.1f}"
        )
        click.echo(f"{name}: read, unpack, collate {row * 1e6:.0f} microseconds a row of {told['row_tokens']:,} tokens")
        for step in STEP_SECONDS:
            click.echo(f"{name}: share of a step of {step} s that trains on 8 rows a rank: {8 * row / step:.2%}")
        memory = ", ".join(f"{megabytes:.0f}" for megabytes in told["epoch_megabytes"])
        click.echo(f"{name}: resident memory after each pass of {told['pass_rows']:,} rows: {memory} MB")


def repeated(build: Path, target: Path, rows: int) -> Path:
    """A build of so many rows whose indexes point again and again into the tokens of a small one."""
    shutil.copytree(build, target)
    shutil.rmtree(target / "main")
    (target / "main").mkdir()
    manifest = read_manifest(build)
    prefixes = []
    for first in range(0, rows, ROWS_A_SHARD):
        prefix = f"main/{len(prefixes):05d}"
        shutil.copyfile(build / "main/00000.bin", target / f"{prefix}.bin")
        write_index(
            target / f"{prefix}.idx", _wide(read_index(build / "main/00000.idx"), min(ROWS_A_SHARD, rows - first))
        )
        prefixes.append((prefix, min(ROWS_A_SHARD, rows - first)))
    # Without phases a training goes once through all rows.
    write_curriculum(target, Curriculum())
    write_manifest(target, _sealed(manifest, target, prefixes))
    return target


def _wide(index: Index, rows: int) -> Index:
    """So many rows of two examples each, taken in turn from the first segments of the small index."""
    pairs = np.flatnonzero((index.modes[:-1] & 3 == 2) & (index.modes[1:] & 3 == 1))
    chosen = np.resize(pairs, 2 * rows)
    segments = np.stack([chosen, chosen + 1], axis=1).reshape(-1)
    return replace(
        index,
        lengths=index.lengths[segments],
        offsets=index.offsets[segments],
        modes=index.modes[segments],
        row_starts=np.arange(rows + 1, dtype=np.int64) * SEGMENTS_A_ROW,
    )


def _sealed(manifest: Manifest, target: Path, prefixes: list[tuple[str, int]]) -> Manifest:
    shards = [
        {"prefix": prefix, "rows": rows, "examples": 2 * rows, "tokens": rows, "trained_tokens": rows}
        for prefix, rows in prefixes
    ]
    counts = manifest.datasets["main"].model_dump(mode="json", by_alias=True)
    counts |= {"shards": shards, "rows": sum(rows for _, rows in prefixes)}
    paths = sorted(path for path in target.rglob("*") if path.is_file() and path.name != "manifest.json")
    files = [
        {"path": path.relative_to(target).as_posix(), "bytes": path.stat().st_size, "digest": file_digest(path)}
        for path in paths
    ]
    told = manifest.model_dump(mode="json", by_alias=True)
    promised = {name: told[name] for name in Contents.model_fields if name in told}
    changed = {**promised, "datasets": {"main": counts}, "files": files, "tables": []}
    return sealed(Contents.model_validate_json(json.dumps(changed)), made=manifest.made)


def _quickstart(folder: Path, *more: str) -> Path:
    recipe, build = HOME / "recipes/quickstart.toml", folder.resolve() / "quickstart"
    words = ["build", str(recipe), "--out", str(build), "--store", "store", *more]
    measure([sys.executable, "-m", "orca_recipes.cli", *words], folder=folder)
    return build


def resident_megabytes() -> float:
    """The largest that this process has been."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
