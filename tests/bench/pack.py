"""`pack`: packing alone, ours against TRL's best fit decreasing and a plain first fit decreasing.

TRL's packs token lists, not lengths, so its figure holds the copying of tokens, a byte each. First fit decreasing is
the textbook's, with a tree of free room over the rows.
"""

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from orca_plugins.packers.best_fit import BestFit
from tests.bench.corpus import SHARED, WORK, Library, workshop
from tests.bench.first_fit import first_fit_decreasing
from tests.bench.lengths import corpus_lengths, log_normal_lengths
from tests.bench.machine import machine
from tests.bench.table import table

ROW_TOKENS = 2048
EXAMPLES = (100_000, 1_000_000, 5_000_000)
PATIENCE_SECONDS = 300
"""A packer that took longer than this on fewer lengths is not asked for more."""


@dataclass(frozen=True)
class Packed:
    """How long a packer took and how many rows it made; seconds is None where it was not asked or gave up."""

    packer: str
    seconds: float | None
    rows: int


@click.command()
@click.option("--work", type=click.Path(path_type=Path), default=WORK, show_default=True)
@click.option("--shared", type=click.Path(path_type=Path, exists=True), default=SHARED, help="The shared data.")
@click.option("--examples", multiple=True, type=int, help="Numbers of lengths.  [default: 100000, 1000000, 5000000]")
@click.option("--peer-python", type=click.Path(path_type=Path), help="An interpreter that has TRL.")
def pack(work: Path, shared: Path, examples: tuple[int, ...], peer_python: Path | None) -> None:
    """Measure packing alone."""
    click.echo(f"{machine()}\nrows of {ROW_TOKENS:,} tokens\n")
    distributions: dict[str, Callable[[int], np.ndarray]] = {
        "lengths of the corpus": corpus_lengths(Library(work / "corpus", shared), work, ROW_TOKENS),
        "log-normal lengths": log_normal_lengths(ROW_TOKENS),
    }
    for name, draw in distributions.items():
        lengths = {number: draw(number) for number in examples or EXAMPLES}
        rows: list[tuple[str, ...]] = []
        for number, drawn in lengths.items():
            rows += _rows(number, drawn, _packed(drawn, rows, peer_python, work))
        heads = ("examples", "packer", "seconds", "rows", "over the bound", "fill")
        click.echo(table(name, heads, rows))


def _packed(lengths: np.ndarray, before: Sequence[Sequence[str]], python: Path | None, work: Path) -> list[Packed]:
    """Every packer on the same lengths, but for those whose last try took too long."""
    impatient = {row[1] for row in before if row[2] != "-" and float(row[2]) * 5 > PATIENCE_SECONDS}
    impatient |= {row[1] for row in before if row[2] == "-"}
    packers: dict[str, Callable[[np.ndarray], int]] = {"ours": _ours, "first fit decreasing": _first_fit}
    found = [_timed(name, packer, lengths) for name, packer in packers.items() if name not in impatient]
    found += [Packed(name, None, 0) for name in packers if name in impatient]
    if python is not None:
        found.append(Packed("TRL bfd", None, 0) if "TRL bfd" in impatient else _trl(lengths, python, work))
    return found


def _timed(name: str, packer: Callable[[np.ndarray], int], lengths: np.ndarray) -> Packed:
    started = time.perf_counter()
    rows = packer(lengths)
    return Packed(name, time.perf_counter() - started, rows)


def _ours(lengths: np.ndarray) -> int:
    keys = np.random.default_rng(1).integers(0, 2**64, size=len(lengths), dtype=np.uint64)
    packing = BestFit(row_tokens=ROW_TOKENS).pack(lengths=lengths, keys=keys, row_tokens=ROW_TOKENS)
    return len(packing.row_starts) - 1


def _first_fit(lengths: np.ndarray) -> int:
    return first_fit_decreasing(lengths, ROW_TOKENS)


def _trl(lengths: np.ndarray, python: Path, work: Path) -> Packed:
    script = Path(__file__).parent / "peers" / "trl_lengths.py"
    with workshop(work) as folder:
        path = Path(folder) / "lengths.npy"
        np.save(path, lengths)
        words = [str(python), str(script), str(path), str(ROW_TOKENS)]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True)
        except subprocess.TimeoutExpired:
            return Packed("TRL bfd", None, 0)
    said = json.loads(done.stdout.splitlines()[-1])
    return Packed("TRL bfd", said["seconds"], said["rows"])


def _rows(number: int, lengths: np.ndarray, packed: Sequence[Packed]) -> list[tuple[str, ...]]:
    """One line a packer, after the fewest rows that any packer could need."""
    tokens = int(lengths.sum())
    bound = lower_bound(lengths, ROW_TOKENS)
    told: list[tuple[str, ...]] = [
        (f"{number:,}", "lower bound", "-", f"{bound:,}", "-", f"{tokens / (bound * ROW_TOKENS):.3%}")
    ]
    for found in packed:
        if found.seconds is None:
            told.append((f"{number:,}", found.packer, "-", "-", "-", "-"))
            continue
        over = f"{found.rows / bound - 1:.3%}"
        fill = f"{tokens / (found.rows * ROW_TOKENS):.3%}"
        told.append((f"{number:,}", found.packer, f"{found.seconds:.2f}", f"{found.rows:,}", over, fill))
    return told


def lower_bound(lengths: np.ndarray, row_tokens: int) -> int:
    """Fewest rows that could do (Martello and Toth's second bound, 1990): no packing needs fewer.

    For each threshold k up to half a row: what is longer than row - k stands alone, two of those longer than half a row
    never share one, and only what of the rest is at least k must fill the room beside those.
    """
    counts = np.bincount(lengths, minlength=row_tokens + 1).astype(np.int64)
    above = np.append(np.cumsum(counts[::-1])[::-1], 0)
    weight = np.append(np.cumsum((counts * np.arange(row_tokens + 1))[::-1])[::-1], 0)
    half = row_tokens // 2
    best = 0
    for k in range(half + 1):
        alone = above[row_tokens - k + 1]
        pairs = above[half + 1] - alone
        room = pairs * row_tokens - (weight[half + 1] - weight[row_tokens - k + 1])
        small = weight[k] - weight[half + 1]
        best = max(best, int(alone + pairs + max(0, -(-(small - room) // row_tokens))))
    return best
