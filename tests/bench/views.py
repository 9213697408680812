"""Rule matching and view rendering alone, in rows a CPU second, at texts of 300 bytes in the mean."""

import time
from collections.abc import Callable
from typing import Any

import click
import numpy as np
import polars as pl

from orca_plugins.strategies.direct import Direct
from orca_plugins.strategies.step_by_step import StepByStep
from orca_recipes.contract.frames import completed, examples_schema
from orca_recipes.recipe.rules import When
from orca_recipes.run.conversations.matching_rule import Message, first_matching
from orca_recipes.run.conversations.system_messages import headed
from orca_recipes.run.conversations.views import teacher_view
from tests.bench.table import table

MEAN_BYTES = 300
WANTED = 1_000_000
RULES = (
    When(task=("nothing-*",)),
    When(task=("task-1*",), options=True),
    When(category=("c3", "c4"), language=("e*",)),
    When(reasoning=("hard",)),
    When(),
)


def examples(rows: int) -> pl.DataFrame:
    """Examples of 1,600 tasks, their questions of 300 bytes in the mean."""
    number = np.arange(rows, dtype=np.uint64)
    lengths = 200 + (number * np.uint64(2654435761) % np.uint64(201)).astype(np.int64)
    filler = "the quick brown fox jumps over the lazy dog " * 10
    frame = pl.DataFrame(
        {
            "id_hi": number,
            "id_lo": number,
            "task": pl.Series([f"task-{n % 1600}" for n in range(rows)]),
            "category": pl.Series([f"c{n % 23}" for n in range(rows)]),
            "language": pl.Series(["en", "de", "fr"]).gather(pl.Series((number % np.uint64(3)).astype(np.uint32))),
            "question": pl.Series([f"{n}: {filler[:length]}" for n, length in enumerate(lengths.tolist())]),
        }
    )
    return completed(frame, examples_schema())


@click.command()
@click.option("--rows", default=1_000_000, show_default=True, help="Examples.")
def views(rows: int) -> None:
    """Match rules, draw system messages, and render both views."""
    frame = examples(rows)
    answers = frame.select(pl.format("The answer to {}", "id_lo"))["id_lo"].alias("answer")
    messages = [Message(f"house/{n}", f"You are assistant number {n}. " * 4) for n in range(16)]
    drawn = headed(frame, messages, seed=1, is_expanded=False).drop("message_id")
    asked = StepByStep().ask(examples=drawn)
    taught = StepByStep().teach(examples=frame, answers=answers)
    nothing = pl.Series([None] * rows, dtype=pl.String)
    works: dict[str, Callable[[], Any]] = {
        "match rules": lambda: first_matching(frame, RULES, None),
        "draw system messages": lambda: headed(frame, messages, seed=1, is_expanded=False),
        "teacher view, direct": lambda: Direct().ask(examples=drawn),
        "teacher view, step_by_step": lambda: StepByStep().ask(examples=drawn),
        "student view": lambda: StepByStep().teach(examples=frame, answers=answers),
        "tell one by the other": lambda: teacher_view(asked, taught, nothing),
    }
    lines = []
    for name, work in works.items():
        started = time.process_time()
        work()
        speed = rows / (time.process_time() - started)
        lines.append((name, f"{speed:,.0f}", f"{speed / WANTED:.2f}"))
    click.echo(table(f"{rows:,} rows", ["work", "rows a CPU second", "of 1 million"], lines), nl=False)
