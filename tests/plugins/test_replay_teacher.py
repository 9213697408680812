"""Answers that exist already are found again, whatever table they stand in."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orca_plugins.teachers.replay.kind import Replay
from orca_recipes.contract.frames import completed, examples_schema
from orca_recipes.errors import SourceError


def examples(*rows: dict[str, Any]) -> pl.DataFrame:
    told = [{"place": place, "file": "table.jsonl", **row} for place, row in enumerate(rows, start=1)]
    frame = pl.DataFrame(told, infer_schema_length=None) if told else pl.DataFrame(schema=examples_schema())
    return completed(frame, examples_schema())


def answered(teacher: Replay, tables: Sequence[pl.DataFrame], asked: pl.DataFrame, folder: Path) -> pl.DataFrame:
    teacher.prepare(examples=iter(tables), folder=folder)
    nothing = pl.Series("request", [None] * asked.height)
    return teacher.answer_prepared(folder=folder, examples=asked, requests=nothing, seed=0)


def teacher(by: Any = "system_and_question") -> Replay:
    return Replay(collection="table", model="gpt-4", by=by)


def test_an_answer_is_found_by_system_message_and_question(tmp_path):
    table = examples(
        {"system": "Be kind.", "question": "2+2?", "answer": "4, dear."},
        {"system": "", "question": "2+2?", "answer": "4"},
        {"system": "Be kind.", "question": "3+3?", "references": ["6", "six"]},
    )
    asked = examples(
        {"system": "Be kind.", "question": "3+3?"},
        {"question": "2+2?"},
        {"system": "Be rude.", "question": "2+2?"},
        {"system": "Be kind.", "question": "2+2?"},
    )
    found = answered(teacher(), [table], asked, tmp_path)
    assert found.rows() == [
        ("6", "stop", None),
        ("4", "stop", None),
        (None, None, "no recorded answer to this system message and question"),
        ("4, dear.", "stop", None),
    ]


def test_an_answer_is_found_by_question_alone_or_by_id(tmp_path):
    table = examples({"id": "flan.1", "system": "Be kind.", "question": "2+2?", "answer": "4"}, {"question": "?"})
    asked = examples({"id": "flan.1", "question": "other"}, {"id": "t0.1", "question": "2+2?"}, {"question": "2+2?"})
    assert answered(teacher("id"), [table], asked, tmp_path)["answer"].to_list() == ["4", None, None]
    assert answered(teacher("question"), [table], asked, tmp_path)["answer"].to_list() == [None, "4", "4"]


def test_a_table_of_conversations_answers_too(tmp_path):
    def turns(*pairs: tuple[str, str]) -> dict[str, Any]:
        return {"messages": [{"role": role, "content": text, "trained": False} for role, text in pairs]}

    table = examples(
        turns(("system", "Be kind."), ("user", "2+2?"), ("assistant", "4")),
        turns(("user", "2+2?"), ("assistant", "four")),
        turns(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")),
    )
    asked = examples(
        {"system": "Be kind.", "question": "2+2?"},
        {"question": "2+2?"},
        {"question": "c"},
        turns(("user", "a"), ("assistant", "b"), ("user", "c")),
        turns(("system", "Be kind."), ("user", "a"), ("assistant", "b"), ("user", "c")),
    )
    assert answered(teacher(), [table], asked, tmp_path)["answer"].to_list() == ["4", "four", None, "d", None]


CALLS = '[{"id":"c1","type":"function","function":{"name":"now","arguments":{}}}]'


def test_thoughts_and_calls_of_an_answer_are_found_with_it(tmp_path):
    def talk(question: str, answer: str, **beside: str) -> dict[str, Any]:
        told = {"role": "assistant", "content": answer, "trained": False, **beside}
        return {"messages": [{"role": "user", "content": question, "trained": False}, told]}

    table = examples(
        talk("2+2?", "4", reasoning="Two and two."),
        talk("When?", "", tool_calls=CALLS),
        {"question": "plain", "answer": "text"},
    )
    asked = examples({"question": "When?"}, {"question": "plain"}, {"question": "2+2?"}, {"question": "?"})
    found = answered(teacher(), [table], asked, tmp_path)
    assert found.select("answer", "reasoning", "tool_calls").rows() == [
        ("", None, CALLS),
        ("text", None, None),
        ("4", "Two and two.", None),
        (None, None, None),
    ]
    assert found["reason"].is_null().to_list() == [True, True, True, False]


def test_answers_that_differ_in_their_thoughts_are_two(tmp_path):
    talks = [
        [{"role": "user", "content": "2+2?", "trained": False}, {"role": "assistant", "content": "4", "reasoning": why}]
        for why in ("Two and two.", "Counting.")
    ]
    table = examples(*({"messages": talk} for talk in talks))
    with pytest.raises(SourceError, match="answer one question in two ways"):
        teacher().prepare(examples=iter([table]), folder=tmp_path)


def test_an_answer_that_a_conversation_holds_before_its_question_answers_nothing(tmp_path):
    talk = [{"role": "assistant", "content": "Hello!", "trained": True}, {"role": "user", "content": "Why?"}]
    table = examples({"messages": [{"trained": False, **message} for message in talk]})
    asked = examples({"question": "Why?"}, {"messages": [{"trained": False, **message} for message in talk]})
    assert answered(teacher("question"), [table], asked, tmp_path)["answer"].to_list() == [None, None]


def test_two_answers_to_one_question_are_an_error_that_names_both(tmp_path):
    table = examples(
        {"question": "q", "answer": "a"}, {"question": "p", "answer": "a"}, {"question": "q", "answer": "b"}
    )
    with pytest.raises(SourceError, match=r"collections\.table: table\.jsonl:1 and table\.jsonl:3 answer one question"):
        answered(teacher(), [table.head(2), table.tail(1)], examples({"question": "q"}), tmp_path)


def test_a_row_that_stands_twice_answers_once(tmp_path):
    row = {"question": "q", "answer": "a"}
    counts = teacher().prepare(examples=iter([examples(row, row), examples(row, {"question": "x"})]), folder=tmp_path)
    assert counts == {
        "answers": 1,
        "rows that repeat an answer": 2,
        "rows without an answer": 1,
        "rows without what they are found by": 0,
    }


def test_an_empty_table_answers_nothing(tmp_path):
    for tables in ([], [examples({"question": "q"})]):
        found = answered(teacher(), tables, examples({"question": "q"}), tmp_path)
        assert found["reason"].to_list() == ["no recorded answer to this system message and question"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=40)
@given(
    st.dictionaries(st.tuples(st.text(max_size=3), st.text(max_size=3)), st.text(max_size=5), max_size=30),
    st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), max_size=20),
    st.integers(1, 7),
)
def test_what_is_found_is_what_a_dictionary_would_find(tmp_path, table, wanted, size):
    rows = examples(*({"system": system, "question": q, "answer": a} for (system, q), a in table.items()))
    asked = [*table, *wanted]
    frame = examples(*({"system": system, "question": q} for system, q in asked))
    parts = [rows.slice(start, size) for start in range(0, rows.height, size)]
    found = answered(teacher(), parts, frame, tmp_path)
    told = {key: text for key, text in table.items() if pl.Series([text]).str.strip_chars()[0]}
    assert found["answer"].to_list() == [told.get(key) for key in asked]


def test_keys_that_share_their_first_half_are_told_apart(tmp_path, monkeypatch):
    import orca_plugins.teachers.replay.replay_table as table

    real = table.text_digests

    def crowded(texts: pl.Series) -> tuple[Any, Any]:
        hi, lo = real(texts)
        return hi % 3, lo

    monkeypatch.setattr(table, "text_digests", crowded)
    rows = [{"question": f"q{n}", "references": [f"a{n}"]} for n in range(50)]
    asked = examples(*rows, {"question": "none"})
    found = answered(teacher(), [examples(*rows)], asked, tmp_path)
    assert found["answer"].to_list() == [*(f"a{n}" for n in range(50)), None]
