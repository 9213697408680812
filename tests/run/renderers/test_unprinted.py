"""What no template prints is never lost: the conversation is rejected, and the thing named."""

from typing import Any

import polars as pl
import pytest

from orca_recipes.contract.frames import stored_conversations_schema
from orca_recipes.run.renderers.unprinted import unprinted

USER = {"role": "user", "content": "Hi", "trained": False}
ANSWER = {"role": "assistant", "content": "Ho", "trained": True}
TOOL = {"role": "tool", "content": "4", "trained": False}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": [USER, ANSWER]}, None),
        (
            {"messages": [USER, {**ANSWER, "reasoning": "So."}]},
            "reasoning (reasoning_content, thinking) of a message: no place for it",
        ),
        (
            {"messages": [USER, {**ANSWER, "tool_calls": "[]"}]},
            "tool_calls (function_call) of a message: no place for it",
        ),
        (
            {"messages": [USER, ANSWER, {**TOOL, "tool_call_id": "a"}]},
            "tool_call_id of a message: no place",
        ),
        ({"messages": [USER, {**TOOL, "name": "sum"}]}, "name of a message: no place for it"),
        ({"messages": [{**USER, "name": "Ann"}, ANSWER]}, None),
        ({"messages": [USER, ANSWER], "tools": "[]"}, "tools of a row: no place for it"),
        ({"messages": [USER, ANSWER], "template_kwargs": "{}"}, "template_kwargs of a row: no place"),
    ],
)
def test_a_conversation_is_named_for_what_would_be_lost(row: dict[str, Any], reason: str | None) -> None:
    table = pl.DataFrame([{"messages": [USER]}, row], schema=stored_conversations_schema()).to_arrow()
    found = unprinted(table)
    assert list(found) == ([1] if reason else [])
    assert all(told.startswith(reason or "") for told in found.values())
