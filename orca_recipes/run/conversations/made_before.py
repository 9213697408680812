"""Conversations that an earlier stage made of the very same examples, judged anew: another filter makes none.

All that decides conversations but their filters is one digest, `made_of`; of an equal one the files of parts are taken
over, held to their digests. What filters see beside the file stands in the examples, or is the last answer: a part
whose teacher told more (an instruction, why it ended) says so, and is made anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orca_recipes.contract.frames import completed, stored_conversations_schema
from orca_recipes.contract.messages import last_answer
from orca_recipes.errors import StoreError
from orca_recipes.plan.fingerprint import digest_of
from orca_recipes.plan.stages import REVISIONS, Plan, Stage
from orca_recipes.run.conversations.course import ConverseTask, selected_examples
from orca_recipes.run.conversations.teaching import taught_schema
from orca_recipes.store.arrow_files import read_frame
from orca_recipes.store.made_conversations import BESIDE, MADE
from orca_recipes.store.sealed import is_promised
from orca_recipes.store.stage_folder import PartWriter, StageFolder

if TYPE_CHECKING:
    import polars as pl

RETOLD = "retold"
"""In a part's report, where all that filters see can be told again: what its teacher said of each answer alike."""
MADE_OF = "made_of"
"""In a stage's report: the digest of what its conversations are made of."""

_OF_FILTERS = {"filters", "filters_see"}
_OF_TEACHERS = ("finish_reason", "instruction")
_OF_EXAMPLES = ("language", "extra", "question", "references", "options")


@dataclass(frozen=True)
class MadeBefore:
    """The conversations of a part before any filter looks at them, linked for the part that is written.

    rejected: lines of examples that gave none. asked, expanded, echoes: as the part's report counts them. told: what
    `retold` returns. digests: of the files, by suffix; none where nothing was taken over.
    """

    conversations: pl.DataFrame
    rejected: pl.DataFrame
    asked: int
    expanded: int
    echoes: int
    told: Mapping[str, str | None] | None
    digests: dict[str, str]


def made_of(plan: Plan, stage: Stage) -> str:
    """Digest all that decides the conversations of a stage before any filter looks at them."""
    decisive = {name: value for name, value in stage.decisive.items() if name not in _OF_FILTERS}
    inputs = [plan[name].fingerprint for name in stage.inputs]
    return digest_of({"revision": REVISIONS[stage.verb], "decisive": decisive, "inputs": inputs})


def alike_stages(earlier: Sequence[StageFolder], digest: str) -> list[StageFolder]:
    """Choose the stages whose conversations were made of the same."""
    found = []
    for stage in earlier:
        try:
            if stage.receipt["report"].get(MADE_OF) == digest:
                found.append(stage)
        except StoreError:
            continue  # what another command removed meanwhile is none
    return found


def retold(conversations: pl.DataFrame) -> dict[str, str | None] | None:
    """Return what a part has to tell so that `made_before` shows filters its conversations again; None where that is
    too much: the teacher told more than one word of some rows, or the answer is none of the conversation's."""
    told: dict[str, str | None] = {}
    for name in _OF_TEACHERS if conversations.height else ():
        value = conversations[name][0]
        if not conversations[name].eq_missing(value).all():
            return None
        told[name] = value
    is_last = conversations["answer"].eq_missing(last_answer(conversations["messages"]))
    return told if is_last.all() else None


def made_before(task: ConverseTask, writer: PartWriter) -> MadeBefore | None:
    """Take over the conversations of a part from the newest stage that holds them whole; None where none does."""
    for path in task.alike:
        with suppress(StoreError, OSError):  # what another command removed meanwhile is none
            found = _taken(StageFolder(path), task, writer)
            if found is not None:
                return found
        let_go(writer)
    return None


def let_go(writer: PartWriter) -> None:
    """Give the links of a part back: to write to one would change the earlier stage's file."""
    for suffix in (MADE, BESIDE):
        writer.path(suffix).unlink(missing_ok=True)


def _taken(stage: StageFolder, task: ConverseTask, writer: PartWriter) -> MadeBefore | None:
    report = stage.part(task.name).report
    # A filter that leaves answers untrained changes the file.
    if (
        report.get(RETOLD) is None
        or "untrained" in report
        or stage.file_fault(task.name, ".rejected.arrow") is not None
    ):
        return None
    digests = {
        suffix: stage.digest(task.name, suffix) for suffix in ((MADE, BESIDE) if task.course.compares else (MADE,))
    }
    for suffix, digest in digests.items():
        writer.take(suffix, stage.file(f"{task.name}{suffix}", task.name))
        if not is_promised(writer.path(suffix), digest):
            return None
    conversations = _seen(task, writer, report[RETOLD])
    if conversations is None:
        return None
    rejected = read_frame(stage.file(f"{task.name}.rejected.arrow", task.name))
    of_making = rejected.filter(~rejected["stage"].str.starts_with("filter "))
    expanded = int(report["created"].get("expand", 0))
    return MadeBefore(
        conversations, of_making, int(report["in"]), expanded, int(report["echoes"]), report[RETOLD], digests
    )


def _seen(task: ConverseTask, writer: PartWriter, told: Mapping[str, str | None]) -> pl.DataFrame | None:
    """Return what filters see of the conversations of a file; None where one is of no example. told: of teachers."""
    import polars as pl

    made = read_frame(writer.path(MADE))
    examples = _examples_of(made, selected_examples(task, columns=("file", "place", *_OF_EXAMPLES)))
    if examples is None:
        return None
    frame = completed(made, stored_conversations_schema())
    said = {name: pl.lit(value, dtype=pl.String) for name, value in told.items()}
    frame = frame.hstack(examples).with_columns(answer=last_answer(frame["messages"]), **said)
    if task.course.compares:
        frame = frame.hstack(read_frame(writer.path(BESIDE)))
    return completed(frame, taught_schema(task.course))


def _examples_of(made: pl.DataFrame, examples: pl.DataFrame) -> pl.DataFrame | None:
    """Return what filters see of the example of each conversation; None where one cannot be told.

    Copies of an example, and its conversations under several system messages, have ids of their own.
    """
    ids, rows = ["id_hi", "id_lo"], ["file", "place"]
    if made.select(ids).equals(examples.select(ids)):
        return examples.select(_OF_EXAMPLES)
    distinct = examples.unique(ids[:1] + rows) if examples.select(rows).is_duplicated().any() else examples
    found = made.select(rows).join(distinct, on=rows, how="left", maintain_order="left")
    whole = found.height == made.height and not found["id_hi"].null_count()
    return found.select(_OF_EXAMPLES) if whole else None
