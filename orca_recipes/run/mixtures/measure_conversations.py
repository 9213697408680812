"""The other part of verb `measure`: the tokens of whole conversations, where answers exist before the draw.

What a row would become is made of it, by the dataset's own rules, teacher, filters and template, and its tokens are
counted as the student will see them, control tokens and all. A row that a rule or a filter rejects has none. What is
counted is what is packed, but for examples that are longer than a row, and for shots, which are drawn here from all
rows and there from those of the mixture.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from orca_recipes.contract.kinds import Tokenizer
from orca_recipes.contract.markup import Markup
from orca_recipes.recipe.train_on import TrainOn
from orca_recipes.run.conversations.converse import conversed
from orca_recipes.run.conversations.course import ConverseTask, selected_examples
from orca_recipes.run.conversations.judging import passing
from orca_recipes.run.renderers.last_exchange import trained_as
from orca_recipes.run.renderers.student_renderer import StudentRenderer
from orca_recipes.run.work.loaded_tokenizer import opened
from orca_recipes.run.work.student import TOKENIZER_FILES
from orca_recipes.store.arrow_files import write_frame
from orca_recipes.store.stage_folder import PartWriter

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class MeasureConversations:
    """Count the tokens of one batch; rows: all of its examples, each once. unknown, train_on: as the dataset says."""

    rows: ConverseTask
    tokenizer: Tokenizer
    tokenizer_folder: Path
    markup: Markup
    unknown: Literal["reject", "train"] = "reject"
    train_on: TrainOn | None = None

    @property
    def name(self) -> str:
        return self.rows.name


def measure_conversations(task: MeasureConversations) -> int:
    """Store what each row of a batch comes to, columns tokens (all) and trained; return how many rows."""
    import polars as pl

    selected = task.rows.selected
    rows = np.flatnonzero(selected)
    # A row's number stands where its place in the file does: ids are other ones where a rule expands.
    examples = selected_examples(task.rows).with_columns(pl.Series("place", rows, dtype=pl.Int64))
    conversations, _, _ = conversed(examples, task.rows.course)
    conversations, *_ = passing(conversations, task.rows.course)
    tokens, trained = _tokens(conversations, task)
    of_row = conversations["place"].to_numpy()
    counts = {
        name: np.bincount(of_row, weights=weights, minlength=len(selected)).astype(np.int64)
        for name, weights in (("tokens", tokens), ("trained", trained))
    }
    writer = PartWriter(task.rows.folder, task.name)
    write_frame(writer.path(".arrow"), pl.DataFrame(counts))
    writer.keep([".arrow"], {"rows": len(selected)})
    return len(selected)


def _tokens(conversations: pl.DataFrame, task: MeasureConversations) -> tuple[np.ndarray, np.ndarray]:
    """Count the tokens, and trained ones, of each conversation; none of those that the template cannot render."""
    train_on, told = task.train_on, conversations.to_arrow()
    student = StudentRenderer(
        task.markup,
        opened(task.tokenizer, task.tokenizer_folder),
        task.tokenizer_folder / TOKENIZER_FILES[0],
        None if train_on is None else train_on.parts(),
    )
    made = student.render(
        told if train_on is None else trained_as(told, train_on),
        check=np.zeros(conversations.height, dtype=np.bool_),
        exact=False,
        of=conversations.height,
        tried=False,
    )
    # As when they are packed: a conversation is lost with any of its examples that cannot be trained on.
    lost = made.rendered.trained_tokens <= 0
    if task.unknown == "reject":
        lost |= made.rendered.unspelt.answers > 0
    is_kept = ~np.isin(made.owner, [*made.reasons, *made.owner[lost].tolist()])
    counts = (np.diff(made.rendered.example_starts) * is_kept, made.rendered.trained_tokens * is_kept)
    tokens, trained = (np.bincount(made.owner, weights=one, minlength=conversations.height) for one in counts)
    return tokens.astype(np.int64), trained.astype(np.int64)
