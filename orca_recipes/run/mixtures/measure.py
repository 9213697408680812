"""Verb `measure`: the tokens of every question of a collection, for shares that are of tokens.

Where answers do not exist yet when a mixture is drawn, what counts is what stands before them: the system message that
a row brings and its question, as texts, without the template around them. Where they exist, whole conversations can be
counted (`measure_conversations`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.kinds import Encoder, Tokenizer
from orca_recipes.run.conversations.course import all_batches
from orca_recipes.run.mixtures.measure_conversations import MeasureConversations, measure_conversations
from orca_recipes.run.mixtures.pools import Collection
from orca_recipes.run.mixtures.questions import RowsTask, before_answer, finish, rows_tasks
from orca_recipes.run.work.bench import Bench
from orca_recipes.run.work.loaded_tokenizer import opened
from orca_recipes.store.arrow_files import read_frame, write_frame
from orca_recipes.store.stage_folder import PartWriter, StageFolder

if TYPE_CHECKING:
    import polars as pl


def make(bench: Bench, folder: StageFolder, subject: str) -> None:
    """Make stage `measure` of a collection, or of what a dataset would make of one ("dataset/collection")."""
    dataset, slash, collection = subject.partition("/")
    if slash:
        _make_of_conversations(bench, folder, dataset, collection)
        return
    tasks = [
        MeasureTask(rows, bench.recipe.tokenizer, bench.student.folder)
        for rows in rows_tasks(bench.folder(f"read {subject}"), folder)
    ]
    bench.map_parts(folder, f"measure {subject}", measure_part, tasks, [1] * len(tasks), "parts")
    finish(bench, folder, [task.name for task in tasks])


def _make_of_conversations(bench: Bench, folder: StageFolder, dataset: str, collection: str) -> None:
    student, chosen = bench.student, bench.recipe.datasets[dataset]
    keep = Collection(bench.folder(f"read {collection}")).ids["keep"].to_numpy()
    tasks = [
        MeasureConversations(
            rows, bench.recipe.tokenizer, student.folder, student.markup, chosen.unknown, chosen.train_on
        )
        for rows in all_batches(bench, folder, dataset, collection, keep)
    ]
    stage, sizes = f"measure {dataset}/{collection}", [int(task.rows.selected.sum()) for task in tasks]
    bench.map_parts(folder, stage, measure_conversations, tasks, sizes, "examples")
    finish(bench, folder, [task.name for task in tasks], "example")


@dataclass(frozen=True)
class MeasureTask:
    """Count the tokens of some batches."""

    rows: RowsTask
    tokenizer: Tokenizer
    tokenizer_folder: Path

    @property
    def name(self) -> str:
        return self.rows.name


def measure_part(task: MeasureTask) -> int:
    """Store the tokens of one part's questions; return how many questions."""
    import polars as pl

    encoder = opened(task.tokenizer, task.tokenizer_folder)
    columns = ["system", "question", "messages"]
    counts = [_tokens(read_frame(path, columns=columns), encoder) for path in task.rows.batches]
    frame = pl.DataFrame({"tokens": np.concatenate(counts)})
    writer = PartWriter(task.rows.folder, task.name)
    write_frame(writer.path(".arrow"), frame)
    writer.keep([".arrow"], {"rows": frame.height})
    return frame.height


def read_tokens(folder: StageFolder, *, trained: bool = False) -> np.ndarray:
    """Read the token counts of rows from a finished `measure` stage, aligned with ids: int64 [rows].

    Args:
        trained: trained tokens alone, where whole conversations were counted.
    """
    column = "trained" if trained else "tokens"
    counts = [read_frame(part.file(".arrow"))[column].to_numpy() for part in folder.parts()]
    return np.concatenate([np.empty(0, dtype=np.int64), *counts])


def _tokens(frame: pl.DataFrame, encoder: Encoder) -> np.ndarray:
    """Count the tokens of each row: int64 [rows]."""
    import polars as pl

    content = pl.element().struct.field("content")
    texts = frame.select(
        system=pl.concat_list("system").list.drop_nulls(),
        question=pl.concat_list("question").list.drop_nulls(),
        messages=before_answer(frame["messages"]).list.eval(content).fill_null([]),
    )
    lists = texts.select(texts=pl.concat_list("system", "question", "messages").list.drop_nulls())["texts"]
    owners = np.repeat(np.arange(frame.height), lists.list.len().to_numpy())
    runs = lists.filter(lists.list.len() > 0).explode().cast(pl.String).to_arrow()
    _, offsets = encoder.encode(texts=runs, opens=True)
    return np.bincount(owners, weights=np.diff(offsets), minlength=frame.height).astype(np.int64)
