"""`draw`: drawing alone, from a pool of (id, task) rows that is made as it is read, as a store would hand it over.

The pool is Orca 1's FLAN2021 in its proportions: 71 tasks from hundreds to millions of rows, one behind the other as
they stand in files. Each draw runs in a process of its own, whose peak memory is the kernel's account of it; making the
pool is measured alone and is part of every draw.
"""

import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from multiprocessing import get_context

import click
import numpy as np

from orca_recipes.contract.draws import splitmix64
from orca_recipes.plan.arrivals import arrival_counts
from orca_recipes.plan.mixture import cut_of, group_counts, largest_remainder
from orca_recipes.recipe.mixtures import Take
from orca_recipes.run.mixtures.draw import Chunk, Sizes, drawn_copies, measured
from tests.bench.machine import machine
from tests.bench.table import table

TASKS = 71
_CHUNK_ROWS = 1 << 20
_SPREAD = 1.12
"""Each task is so much larger than the one before: the smallest has a few thousandths of the largest."""


@dataclass(frozen=True)
class Cost:
    """What one draw took."""

    drawn: int
    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Pool:
    """A pool of so many rows."""

    rows: int

    def __call__(self) -> Iterator[Chunk]:
        bounds = np.cumsum(largest_remainder(self.rows, [int(1000 * _SPREAD**task) for task in range(TASKS)]))
        for start in range(0, self.rows, _CHUNK_ROWS):
            numbers = np.arange(start, min(start + _CHUNK_ROWS, self.rows), dtype=np.uint64)
            group = np.searchsorted(bounds, numbers, side="right").astype(np.int32)
            yield Chunk(splitmix64(numbers), splitmix64(~numbers), group)


@click.command()
@click.option("--rows", default=100_000_000, show_default=True, help="Rows of the pool.")
def draw(rows: int) -> None:
    """Measure drawing alone."""
    click.echo(f"{machine()}\n{rows:,} rows of {TASKS} tasks\n")
    lines = []
    for name in ("the pool alone", *_DRAWS):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            cost = alone.submit(_measured, name, rows).result()
        rate = f"{rows / cost.cpu_seconds / 1e6:.1f}"
        peak = f"{cost.peak_bytes / 2**20:.0f}"
        lines.append((name, f"{cost.drawn:,}", f"{cost.wall_seconds:.1f}", f"{cost.cpu_seconds:.1f}", rate, peak))
    click.echo(table("draw", ("draw", "drawn", "wall s", "CPU s", "M rows/CPU s", "peak MiB"), lines))


def _measured(name: str, rows: int) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    pool = Pool(rows)
    drawn = _DRAWS[name](pool) if name in _DRAWS else sum(0 * len(chunk.group) for chunk in pool())
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Cost(drawn, wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)


def _uniform(pool: Pool) -> int:
    sizes = measured(pool, TASKS)
    names = [f"task-{task}" for task in range(TASKS)]
    counts = arrival_counts(collection="pool", tasks=names, capacities=sizes.rows, rows=pool.rows // 40, seed=1)
    return _drawn(pool, counts.tolist(), sizes)


def _by_group(take: Take, target: int | None) -> Callable[[Pool], int]:
    def draw(pool: Pool) -> int:
        sizes = measured(pool, TASKS)
        return _drawn(pool, group_counts(take, sizes.rows.tolist(), target), sizes)

    return draw


def _drawn(pool: Pool, counts: list[int], sizes: Sizes) -> int:
    cuts = [cut_of(count, int(size), 1) for count, size in zip(counts, sizes.rows, strict=True)]
    return int(drawn_copies(pool, cuts=cuts, sizes=sizes, seed=1).sum(dtype=np.int64))


_DRAWS: dict[str, Callable[[Pool], int]] = {
    "uniform_tasks, one in 40": _uniform,
    "proportional, 1,000,000": _by_group(Take(draw="proportional", rows=1, temperature=Decimal(2)), 1_000_000),
    "per_task, 20,000": _by_group(Take(per_task=20_000), None),
}
