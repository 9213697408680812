"""The filter `where`: conversations are chosen in the words that choose rows."""

import polars as pl
import pytest
from pydantic import ValidationError

from orca_plugins.filters.where import REASON, Where
from orca_recipes.contract.frames import completed, conversations_schema, extra_type, messages_type


def turn(role: str, content: str) -> dict:
    return {"role": role, "content": content, "trained": role == "assistant"}


ONE = [turn("user", "2+2?"), turn("assistant", "4.")]
TWO = [turn("system", "Be kind."), *ONE, turn("user", "3+3?"), turn("assistant", "6")]
ROWS = completed(
    pl.DataFrame(
        {
            "messages": pl.Series([ONE, TWO, ONE], dtype=messages_type()),
            "question": [None, None, "1+1?"],
            "answer": ["4.", "6", None],
            "language": ["en", "de", None],
            "task": ["sums", "sums", "other"],
            "extra": pl.Series([[{"name": "stop", "value": "done"}], [], None], dtype=extra_type()),
        }
    ),
    conversations_schema(),
)


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ({"messages": {"turns": {"ge": 2}}}, [False, True, False]),
        ({"messages": {"role": "system"}}, [False, True, False]),
        ({"messages": {"matches": r"3\+3"}}, [False, True, False]),
        ({"language": {"in": ["en", "fr"]}}, [True, False, False]),
        ({"not": {"language": "de"}}, [True, False, True]),
        ({"question": {"matches": r"^2"}}, [True, False, False]),
        ({"question": "3+3?"}, [False, True, False]),
        ({"question": {"in": ["3+3?", "1+1?"]}}, [False, True, True]),
        ({"answer": {"matches": r"\.$"}}, [True, False, False]),
        ({"extra.stop": "done"}, [True, False, False]),
        ({"any": [{"extra.stop": {"null": False}}, {"task": "other"}]}, [True, False, True]),
    ],
)
def test_conversations_are_kept_for_which_it_holds(where: dict, kept: list[bool]):
    reasons = Where(where=where).reasons(conversations=ROWS)
    assert reasons.to_list() == [None if one else REASON for one in kept]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"langage": "en"}, 'conversations have no column "langage"; did you mean "language"'),
        ({"answer": {"ge": 2}}, "answer of a conversation is text, and is compared with a number"),
        ({"messages": "assistant"}, "messages: they are turns and no text; say turns, role or matches"),
        ({}, "name a column and what it must be"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(where: dict, said: str):
    with pytest.raises(ValidationError, match=said):
        Where(where=where)
