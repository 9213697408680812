"""Verb `keep`: of a draw with a reserve, the first that passed the filters, as many as were asked for.

The order is the draw's own, so that what is kept is what a draw of exactly so many rows would have kept, with those
that filters took made up for by the next ones.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.counted import counted
from orca_recipes.errors import MixtureError
from orca_recipes.run.conversations.course import course_of
from orca_recipes.run.conversations.system_messages import expanded_ids
from orca_recipes.run.examples.selection import ORDER, SPARE
from orca_recipes.run.work.account import ACCOUNT, count_reasons, read_account
from orca_recipes.run.work.bench import Bench
from orca_recipes.store.arrow_files import read_frame, write_frame
from orca_recipes.store.made_conversations import MADE, passed_rows, write_passed
from orca_recipes.store.stage_folder import Part, PartWriter, StageFolder

if TYPE_CHECKING:
    import polars as pl

_TOLD = ["id_hi", "id_lo", "file", "place"]


def make(bench: Bench, folder: StageFolder, subject: str) -> None:
    """Make stage `keep` of a dataset's collection."""
    dataset, _, collection = subject.partition("/")
    verb = "sift" if bench.recipe.datasets[dataset].comparisons else "converse"
    converse = bench.folder(f"{verb} {dataset}/{collection}")
    mixture = bench.recipe.datasets[dataset].mixture
    where = f"mixtures.{mixture}.take.{collection}.reserve"
    bench.progress.begin(f"keep {dataset}/{collection}", total=1, unit="draws")
    mix, rules = bench.mixed(dataset, collection), course_of(bench, dataset, collection).rules
    messages = {message.name for rule in rules if rule.is_expanded for message in rule.messages}
    names, questions = keep_first(mix, converse, folder, messages=sorted(messages), where=where)
    asked = mix.receipt["report"]["kept_at_most"]
    bench.finish_counted(folder, names, "keep", "conversation", read_account(converse), {"asked": asked})
    if questions < asked and bench.limit is None:
        left = f"the filters leave {questions:,} of {counted(asked, 'row')}"
        bench.progress.say(f"{where}: {left}; raise the reserve")


def keep_first(
    mix: StageFolder, converse: StageFolder, folder: StageFolder, *, messages: Collection[str], where: str
) -> tuple[list[str], int]:
    """Store the conversations that are kept, part by part as they came.

    Args:
        messages: names of those under each of which some rule asks a question.
    Returns: the parts' names, and how many questions are kept.
    Raises: MixtureError where something else made several conversations of a question.
    """
    parts = [part for part in converse.parts() if part.name != ACCOUNT]
    passed = [_passed(part) for part in parts]
    kept, questions = _kept([frame.select("id_hi", "id_lo") for frame in passed], mix, messages, where)
    start = 0
    for part, frame in zip(parts, passed, strict=True):
        chosen = kept[start : start + frame.height]
        start += frame.height
        _keep_part(PartWriter(folder.path, part.name), part, frame, chosen)
    return [part.name for part in parts], questions


def _kept(ids: list[pl.DataFrame], mix: StageFolder, messages: Collection[str], where: str) -> tuple[np.ndarray, int]:
    """Return bool [conversations]: those of the first questions of each group, up to its count; and how many
    questions."""
    import polars as pl

    part = mix.part(ORDER)
    table = pl.concat([pl.DataFrame(schema={"id_hi": pl.UInt64, "id_lo": pl.UInt64}), *ids])
    order = _with_copies(read_frame(part.file(".arrow")).with_row_index("question"), messages)
    joined = table.join(order, on=["id_hi", "id_lo"], how="left", maintain_order="left")
    if joined["rank"].null_count():
        raise MixtureError(
            f"{where}: a reserve counts questions, and here one question became several conversations; "
            "leave `reserve` out, or let a rule draw one system message for each question"
        )
    there = joined.select("question", "group", "rank").unique("question").sort("group", "rank")
    group = there["group"].to_numpy()
    place = np.arange(len(group)) - np.searchsorted(group, group)
    is_first = place < np.array(part.report["counts"], dtype=np.int64)[group]
    first = there["question"].filter(pl.Series(is_first))
    # polars deprecates is_in by a Series of the same type, which could mean lists.
    return joined["question"].is_in(first.implode()).to_numpy(), int(is_first.sum())


def _with_copies(order: pl.DataFrame, messages: Collection[str]) -> pl.DataFrame:
    """Add to the order of the examples the ids of their expanded copies, at the same places."""
    import polars as pl

    hi, lo = order["id_hi"].to_numpy(), order["id_lo"].to_numpy()
    copies = [
        order.with_columns(pl.Series(name, half) for name, half in zip(("id_hi", "id_lo"), found, strict=True))
        for found in (expanded_ids(hi, lo, message) for message in messages)
    ]
    return pl.concat([order, *copies])


def _passed(part: Part) -> pl.DataFrame:
    """Read the conversations of a part that the filters kept, without their texts. Column `row`: the place in the
    part."""
    frame = read_frame(part.file(MADE), columns=_TOLD).with_row_index("row")
    rows = passed_rows(part)
    return frame if rows is None else frame[rows]


def _keep_part(writer: PartWriter, part: Part, passed: pl.DataFrame, kept: np.ndarray) -> None:
    """Store which of a part's conversations are kept; the file that holds them is the same."""
    import polars as pl

    chosen = pl.Series(kept)
    spare = passed.filter(~chosen).select(_TOLD)
    spare = spare.with_columns(pl.lit(SPARE).alias("reason"), pl.lit("keep").alias("stage"))
    writer.take(MADE, part.file(MADE))
    made = int(part.report.get("made", part.report["out"]))
    suffixes, told = write_passed(writer, passed["row"].to_numpy()[kept], made)
    write_frame(writer.path(".rejected.arrow"), spare)
    report: dict[str, Any] = {"in": passed.height, "out": int(kept.sum()), "rejected": count_reasons(spare["reason"])}
    writer.keep([MADE, *suffixes, ".rejected.arrow"], {**report, **told})
