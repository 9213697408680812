"""A row that brings words of its own is refused by a strategy that would replace them, unless the rule says so."""

from types import SimpleNamespace
from typing import Any

import polars as pl

from orca_recipes.contract.frames import completed, examples_schema
from orca_recipes.run.conversations.refused_rows import refused_rows

TALK = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]


def refused(row: dict[str, Any], *, keeps: bool, replace: bool = False) -> str | None:
    schema = examples_schema()
    frame = completed(pl.DataFrame([row], schema={name: schema[name] for name in row}), schema)
    rule: Any = SimpleNamespace(replace=replace, strategy=SimpleNamespace(keeps_own_words=keeps))
    return refused_rows(frame, rule).item()


def test_own_words_are_replaced_only_where_the_rule_says_so() -> None:
    row = {"question": "Why?", "answer": "So."}
    assert "say replace = true to replace it" in (refused(row, keeps=False) or "")
    assert refused(row, keeps=False, replace=True) is None
    assert refused({"question": "Why?"}, keeps=False) is None


def test_of_two_answers_that_differ_none_is_chosen() -> None:
    assert "the row brings two answers" in (refused({"messages": TALK, "answer": "So."}, keeps=True) or "")
    assert refused({"messages": TALK, "answer": "Because."}, keeps=True) is None
