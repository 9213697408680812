"""Write a file of generated reasoning tasks, so that a recipe can use them without the generator.

    python -m orca_plugins.sources.generate_tasks --tasks chain_sum,gcd --rows-per-task 300 --out tasks.jsonl.gz

The same arguments and versions give the same bytes: JSON with fixed keys, gzip without a name or a time.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from orca_plugins.sources.reasoning_gym import ReasoningGym
from orca_recipes.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns: the exit status: 0, or 2 with a sentence for a mistake."""
    options = _parser().parse_args(arguments)
    try:
        source = ReasoningGym(
            tasks=tuple(options.tasks.split(",")), rows_per_task=options.rows_per_task, seed=options.seed
        )
        options.out.write_bytes(compressed(source))
    except (UserError, ValidationError, OSError) as error:
        print(f"generate_tasks: {_sentence(error)}", file=sys.stderr)
        return 2
    return 0


def compressed(source: ReasoningGym) -> bytes:
    """Write all items of the source as gzipped JSON lines {"id", "task", "question", "answer"}."""
    lines = "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in _rows(source))
    # Without a time in the header, so that two runs write the same bytes.
    return gzip.compress(lines.encode(), compresslevel=9, mtime=0)


def _sentence(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(fault["msg"].removeprefix("Value error, ") for fault in error.errors())
    return str(error)


def _rows(source: ReasoningGym) -> Iterator[dict[str, str]]:
    for slice in source.slices(slice_bytes=1 << 20):
        for reading in source.read(slice=slice):
            for row in reading.rows.select("id", "task", "question", "references").iter_rows():
                yield {"id": row[0], "task": row[1], "question": row[2], "answer": row[3][0]}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m orca_plugins.sources.generate_tasks", description=__doc__)
    parser.add_argument("--tasks", required=True, help="families of reasoning-gym, with commas between")
    parser.add_argument("--rows-per-task", required=True, type=int, help="items of each family")
    parser.add_argument("--seed", default=0, type=int, help="another seed gives other items")
    parser.add_argument("--out", required=True, type=Path, help="file to write (.jsonl.gz)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
