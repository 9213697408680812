"""Verb `ask`: examples become the requests that a teacher is to answer, each with the key its answer is bought under.

It knows neither the student's view nor filters, so that changing those asks nothing anew; but what is found by those
that compare questions is not asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.answers import request_key
from orca_recipes.plan.comparisons import compared_questions
from orca_recipes.plan.used_parts import compares_questions
from orca_recipes.run.answers.requests import beside, told
from orca_recipes.run.comparisons.compare import verdict_part
from orca_recipes.run.conversations.converse import ask, keep_part
from orca_recipes.run.conversations.course import ConverseTask, Course, batches, selected_examples
from orca_recipes.run.conversations.matching_rule import keeps_own_answer
from orca_recipes.run.examples.drawn_account import account_of_drawing
from orca_recipes.run.examples.selection import taken_copies
from orca_recipes.run.work.bench import Bench
from orca_recipes.store.arrow_files import IDS, read_frame
from orca_recipes.store.stage_folder import PartWriter, StageFolder

if TYPE_CHECKING:
    import polars as pl

CREATED = "best of"
"""What a further answer to the same question is created for, in the account."""


def make(bench: Bench, folder: StageFolder, subject: str) -> None:
    """Make stage `ask` of a dataset's collection."""
    dataset, _, collection = subject.partition("/")
    samples = bench.recipe.datasets[dataset].best_of
    found = _Found.of(bench, dataset, collection)
    tasks = [
        AskTask(batch, samples, None if found is None else found.of_batch(batch))
        for batch in batches(bench, folder, dataset, collection)
    ]
    sizes = [int(task.batch.selected.sum()) for task in tasks]
    bench.map_parts(folder, f"ask {subject}", ask_part, tasks, sizes, "examples")
    read, mix = bench.folder(f"read {collection}"), bench.mixed(dataset, collection)
    before = account_of_drawing(read, mix)
    names = [task.name for task in tasks]
    bench.finish_counted(folder, names, "ask", "question", before)


@dataclass(frozen=True)
class AskTask:
    """The examples of one batch; samples: how many answers each is asked for; lost: those that are not asked."""

    batch: ConverseTask
    samples: int
    lost: pl.DataFrame | None = None

    @property
    def name(self) -> str:
        return self.batch.name


def ask_part(task: AskTask) -> int:
    """Store what is asked of one batch, sample by sample; return how many examples were looked at.

    The part holds what `converse.ask` gives, and sample and key; the key is null where a row brings the answer that its
    strategy keeps, so that nothing is asked.
    """
    import polars as pl

    batch, course = task.batch, task.batch.course
    drawn = selected_examples(batch)
    examples, lost = _without(drawn, batch, task.lost)
    asked, rejected = ask(examples, course)
    created = {"expand": asked.height + sum(frame.height for frame in rejected) - examples.height}
    # Counted as made, so that what comes in and what goes out balance in every account.
    created[CREATED] = asked.height * (task.samples - 1)
    keys = _keys(asked, course, task.samples)
    samples = [
        asked.with_columns(sample=pl.lit(sample, dtype=pl.Int64), key=pl.Series(keys[sample], dtype=pl.Binary))
        for sample in range(task.samples)
    ]
    facts: dict[str, Any] = {
        "requests": _told(asked, course, task.samples),
        "created": {reason: number for reason, number in created.items() if number},
    }
    writer = PartWriter(batch.folder, task.name)
    keep_part(writer, drawn.height, pl.concat(samples), rejected, twins=lost, **facts)
    return drawn.height


@dataclass(frozen=True)
class _Found:
    """Verdicts of question comparisons on a collection, with each row's place among the collection's ids."""

    verdicts: pl.DataFrame
    places: np.ndarray

    @classmethod
    def of(cls, bench: Bench, dataset: str, collection: str) -> _Found | None:
        if not compares_questions(bench.recipe, dataset):
            return None
        compare = bench.folder(compared_questions(dataset))
        verdicts = read_frame(compare.file(f"{verdict_part(collection)}.arrow")).filter("rejects")
        read = bench.folder(f"read {collection}")
        keep = read_frame(read.file(f"{IDS}.arrow"), columns=["keep"])["keep"].to_numpy()
        drawn = np.flatnonzero(keep & (taken_copies(bench.mixed(dataset, collection)) > 0))
        return cls(verdicts, drawn[verdicts["row"].to_numpy()])

    def of_batch(self, batch: ConverseTask) -> pl.DataFrame:
        """Select the verdicts on rows of a batch, with each row's place in the batch."""
        import polars as pl

        places = self.places - batch.start
        mine = (places >= 0) & (places < len(batch.selected))
        return self.verdicts.filter(pl.Series(mine)).with_columns(at=pl.Series(places[mine], dtype=pl.Int64))


def _without(
    examples: pl.DataFrame, batch: ConverseTask, found: pl.DataFrame | None
) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """Split a batch into the examples that are asked, and the rejections of the others with their twins."""
    import polars as pl

    if found is None or not found.height:
        return examples, None
    at = np.repeat(np.arange(len(batch.selected)), np.maximum(batch.selected, 0))
    placed = examples.select("id_hi", "id_lo", "file", "place").with_columns(at=pl.Series(at, dtype=pl.Int64))
    told = found.unique("at", keep="first", maintain_order=True).select(
        "at", "reason", pl.concat_str(pl.lit("filter "), "filter").alias("stage"), "twin_hi", "twin_lo"
    )
    lost = placed.join(told, on="at", how="inner", maintain_order="left")
    # polars deprecates is_in by a Series of the same type, which could mean lists.
    return examples.filter(~placed["at"].is_in(told["at"].implode())), lost.drop("at")


def _keys(asked: pl.DataFrame, course: Course, samples: int) -> list[list[bytes | None]]:
    """Compute the key of each request, one list per sample; None where the row keeps its own answer."""
    sampling = course.teacher.sampling()
    answered = keeps_own_answer(asked, course.rules)
    keys: list[list[bytes | None]] = [[] for _ in range(samples)]
    for messages, tools, is_answered in zip(asked["request"], asked["tools"], answered, strict=True):
        request: dict[str, Any] = {}
        if not is_answered:
            request = {"messages": told(messages), "beside": beside(messages), "tools": tools}
        for sample in range(samples):
            keys[sample].append(request_key(**request, sampling=sampling, sample=sample) if request else None)
    return keys


def _told(asked: pl.DataFrame, course: Course, samples: int) -> dict[str, list[int]]:
    """Map strategies to requests and their characters, for the estimate of what they cost."""
    import polars as pl

    chars = pl.col("request").list.eval(pl.element().struct.field("content").str.len_chars()).list.sum()
    kept = asked.filter(~keeps_own_answer(asked, course.rules)).select("rule", chars=chars.cast(pl.Int64))
    sums: dict[str, list[int]] = {}
    for rule, number, total in kept.group_by("rule").agg(pl.len(), pl.col("chars").sum()).sort("rule").iter_rows():
        entry = sums.setdefault(course.rules[rule].strategy_name, [0, 0])
        entry[0] += number * samples
        entry[1] += total * samples
    return sums
