"""Conversations are made from columns, and taken apart again."""

from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.contract.frames import BESIDE_CONTENT, messages_type
from orca_recipes.contract.messages import (
    Turn,
    conversations_of,
    ends_with_answer,
    flat_messages,
    heading,
    without_last_answer,
)

CONTENT = st.none() | st.text(max_size=5)


def plainly(columns: list[tuple[str, list[str | None], bool]], rows: int) -> list[list[dict[str, Any]]]:
    return [
        [
            {"role": role, "content": texts[row], "trained": trained, **dict.fromkeys(BESIDE_CONTENT)}
            for role, texts, trained in columns
            if texts[row] is not None
        ]
        for row in range(rows)
    ]


@given(
    rows=st.lists(st.tuples(CONTENT, CONTENT, CONTENT), max_size=8),
)
def test_a_turn_without_content_is_no_message_and_the_others_keep_their_order(rows: list[tuple[str | None, ...]]):
    columns = [
        (role, [row[place] for row in rows], role == "assistant")
        for place, role in enumerate(("system", "user", "assistant"))
    ]
    made = conversations_of(
        [Turn(role, pl.Series(texts, dtype=pl.String), trained) for role, texts, trained in columns]
    )
    assert made.dtype == messages_type()
    assert made.to_list() == plainly(columns, len(rows))
    flat = flat_messages(made)
    assert flat["row"].to_list() == [row for row, messages in enumerate(made.to_list()) for _ in messages]
    assert flat["content"].to_list() == [text["content"] for messages in made.to_list() for text in messages]


def test_an_empty_system_message_heads_nothing():
    assert heading(pl.Series(["", None, "Help."], dtype=pl.String)).to_list() == [None, None, "Help."]


def test_an_answer_that_ends_a_conversation_is_found_beside_rows_that_bring_none():
    answered, other = (
        conversations_of([Turn("user", pl.Series(["q"])), Turn("assistant", pl.Series(["a"]))]),
        messages_type(),
    )
    mixed = pl.concat([pl.Series("messages", [None], dtype=other), answered.alias("messages")])
    assert ends_with_answer(mixed).to_list() == [False, True]
    assert without_last_answer(mixed).list.len().to_list() == [None, 1]
