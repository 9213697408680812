"""Conversations as items: fixed texts, contents, control tokens, and cuts where a trained answer begins.

All messages of a part are laid out at once, by gathering the pieces of each joint from tables made once. Columns are as
narrow as a part allows, because a conversation has several times more items than messages.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orca_recipes.run.segments.flat_messages import FlatMessages
from orca_recipes.run.segments.ragged import ragged
from orca_recipes.run.segments.template_pieces import END_CODE, PieceTables


@dataclass(frozen=True)
class Items:
    """The laid-out pieces of a part, in order; `example` is non-decreasing.

    Args:
        what: int8 [items], kinds of piece. source: int32 [items], into the tables: equal ones are equal pieces.
        payload: int32 [items], as the tables say. The contents are those of the messages, in their order.
        role: int8 [items]. trained: bool [items]. example: int32 [items].
    """

    what: np.ndarray
    source: np.ndarray
    payload: np.ndarray
    role: np.ndarray
    trained: np.ndarray
    example: np.ndarray


def lay_out(flat: FlatMessages, cut: np.ndarray, tables: PieceTables) -> Items:
    """Gather the pieces of every message and of every end.

    Args:
        cut: bool [examples], whose last answer gets no terminator.
    """
    _, _, codes = flat.neighbours()
    ends = flat.ends()
    is_end = np.zeros(len(codes) + len(ends), dtype=bool)
    is_end[ends + np.arange(1, len(ends) + 1)] = True
    joints = np.empty(len(is_end), dtype=np.int64)
    joints[~is_end] = codes
    joints[is_end] = PieceTables.code(
        flat.role[ends], flat.trained[ends], np.full(len(ends), END_CODE), np.zeros(len(ends), dtype=bool)
    )
    message = np.cumsum(~is_end, dtype=np.int32) - 1
    counts = tables.counts[joints]
    counts[is_end & cut[flat.example[message]]] = 0
    source = ragged(tables.starts[joints], counts)
    what = tables.what[source]
    example = np.repeat(flat.example[message].astype(np.int32), counts)
    columns = (tables.payload[source], tables.role[source], tables.trained[source])
    return Items(what, source.astype(np.int32), *columns, example)
