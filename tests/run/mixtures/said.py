"""Questions and conversations of every sort, in a few words that often are equal."""

from collections.abc import Sequence
from typing import Any

import polars as pl
from hypothesis import strategies as st

from orca_recipes.contract.frames import messages_type

ROLES = st.sampled_from(["system", "user", "assistant", "tool"])
TEXTS = st.sampled_from(["", "a", "b", "4:user1:a"])
TURNS = st.lists(st.tuples(ROLES, TEXTS, st.booleans()), min_size=1, max_size=4)
EITHER = st.one_of(st.tuples(st.none() | TEXTS, TEXTS, st.none()), st.tuples(st.none() | TEXTS, st.none(), TURNS))


def frame_of(rows: Sequence[Any]) -> pl.DataFrame:
    talks = [
        None if turns is None else [{"role": r, "content": c, "trained": t and r == "assistant"} for r, c, t in turns]
        for _, _, turns in rows
    ]
    columns = {"system": [row[0] for row in rows], "question": [row[1] for row in rows], "messages": talks}
    schema = {"system": pl.String, "question": pl.String, "messages": messages_type()}
    return pl.DataFrame(columns, schema=schema)
