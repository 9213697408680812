"""Conversations fewer of whose answers are trained than they say: the last one alone, none, or as `train_on` has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.frames import TRAIN_ON
from orca_recipes.run.segments.flat_messages import flatten
from orca_recipes.run.segments.less_training import less_trained
from orca_recipes.run.segments.template_pieces import ASSISTANT
from orca_recipes.store.arrow_files import one_piece

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from orca_recipes.recipe.train_on import TrainOn


def last_alone(conversations: pa.Table) -> pa.Table:
    """Untrain every answer but the last trained one of each conversation; the others become context."""
    import polars as pl

    element = pl.element()
    trained = element.struct.field("trained") & (element.struct.field("role") == "assistant")
    # Counts trained answers from the end, so that the last one is 1.
    later = trained.cast(pl.Int64).reverse().cum_sum().reverse()
    return _with_marks(conversations, trained & (later == 1))


def without_trained(conversations: pa.Table, chosen: np.ndarray) -> pa.Table:
    """Untrain every answer of some conversations, which becomes context. chosen: bool [conversations]."""
    import polars as pl

    if not chosen.any():
        return conversations
    bare = _with_marks(conversations, pl.lit(value=False))
    return bare if chosen.all() else _one_or_other(conversations, bare, chosen)


def trained_as(conversations: pa.Table, train_on: TrainOn) -> pa.Table:
    """Mark answers as the dataset trains them; conversations of rules with their own `train_on` stay as they are."""
    import polars as pl

    messages: Any = pl.from_arrow(conversations["messages"].combine_chunks())
    less = _with_messages(conversations, less_trained(messages, train_on).cast(messages.dtype))
    of_rules = conversations[TRAIN_ON].is_valid().to_numpy()
    return _one_or_other(less, conversations, of_rules) if of_rules.any() else less


def finished_before(conversations: pa.Table) -> pa.Table:
    """Cut the conversations that train an answer their teacher did not finish, so that they train the last answer
    alone."""
    cut = np.asarray(conversations["cut"])
    if not cut.any():
        return conversations
    flat = flatten(one_piece(conversations["messages"]))
    said, last = np.flatnonzero(flat.role == ASSISTANT), np.full(flat.examples, -1)
    last[flat.example[said]] = said
    return with_cut(conversations, cut & (last == flat.last_trained()))


def with_cut(conversations: pa.Table, cut: np.ndarray) -> pa.Table:
    """Mark conversations as cut; cut: bool [conversations]."""
    import pyarrow as pa

    return conversations.set_column(conversations.column_names.index("cut"), "cut", pa.array(cut))


def _with_marks(conversations: pa.Table, marks: pl.Expr) -> pa.Table:
    import polars as pl

    column: Any = pl.from_arrow(conversations["messages"].combine_chunks())
    alone = column.list.eval(pl.element().struct.with_fields(trained=marks))
    return _with_messages(conversations, alone.cast(column.dtype))


def _with_messages(conversations: pa.Table, messages: pl.Series) -> pa.Table:
    place = conversations.column_names.index("messages")
    return conversations.set_column(place, "messages", messages.rechunk().to_arrow())


def _one_or_other(conversations: pa.Table, others: pa.Table, chosen: np.ndarray) -> pa.Table:
    """Take the messages of `others` for chosen conversations, and keep all others."""
    import polars as pl

    ours, theirs = (pl.Series(pl.from_arrow(one["messages"].combine_chunks())) for one in (conversations, others))
    mixed = pl.select(pl.when(pl.Series(chosen)).then(theirs).otherwise(ours)).to_series()
    return _with_messages(conversations, mixed)
