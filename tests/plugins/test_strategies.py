"""Strategies: what the teacher is asked, and what of that the student sees."""

from typing import Any

import polars as pl

from orca_plugins.strategies.direct import Direct
from orca_recipes.contract.frames import BESIDE_CONTENT, completed, examples_schema, messages_type


def said(role: str, content: str, trained: bool = False) -> dict[str, Any]:
    return {"role": role, "content": content, "trained": trained, **dict.fromkeys(BESIDE_CONTENT)}


def examples(*rows: dict[str, Any]) -> pl.DataFrame:
    schema = examples_schema()
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["question"]
    frame = pl.DataFrame(list(rows), schema={name: schema[name] for name in names})
    return completed(frame, schema)


def ask(*rows: dict[str, Any]) -> list[Any]:
    return Direct().ask(examples=examples(*rows)).to_list()


def teach(*rows: dict[str, Any], answers: list[str | None]) -> list[Any]:
    series = pl.Series(answers, dtype=pl.String)
    return Direct().teach(examples=examples(*rows), answers=series).to_list()


TALK = [said("user", "1"), said("assistant", "2", True), said("user", "3"), said("assistant", "4", True)]


def test_the_teacher_is_asked_the_question() -> None:
    assert ask({"question": "Why?"}) == [[said("user", "Why?")]]


def test_the_student_is_trained_on_the_answer_alone() -> None:
    taught = teach({"question": "Why?", "system": "Be brief."}, answers=["Because."])
    assert taught == [[said("system", "Be brief."), said("user", "Why?"), said("assistant", "Because.", True)]]


def test_a_system_message_goes_first() -> None:
    assert ask({"question": "Why?", "system": "Be brief."}) == [[said("system", "Be brief."), said("user", "Why?")]]


def test_no_system_message_and_an_empty_one_are_none() -> None:
    rows = [{"question": "Why?", "system": system} for system in (None, "")]
    assert ask(*rows) == [[said("user", "Why?")]] * 2


def test_a_row_that_brings_its_answer_keeps_it() -> None:
    taught = teach({"question": "Why?", "answer": "Its own."}, answers=["The teacher's."])
    assert taught[0][-1] == said("assistant", "Its own.", True)


def test_a_conversation_is_asked_up_to_before_its_last_answer() -> None:
    assert ask({"messages": TALK}) == [[said("user", "1"), said("assistant", "2"), said("user", "3")]]


def test_a_conversation_that_ends_on_a_user_is_asked_whole() -> None:
    (asked,) = ask({"messages": [*TALK, said("user", "5")]})
    assert [message["content"] for message in asked] == ["1", "2", "3", "4", "5"]
    assert not any(message["trained"] for message in asked)


def test_what_answers_a_conversation_that_ends_on_a_user_becomes_its_last_turn() -> None:
    row = {"messages": [*TALK, said("user", "5")]}
    assert teach(row, answers=["6"]) == [[*TALK, said("user", "5"), said("assistant", "6", True)]]
    assert teach({**row, "answer": "own"}, answers=["6"])[0][-1] == said("assistant", "own", True)
    assert teach(row, answers=[None]) == [[*TALK, said("user", "5")]]


def test_a_conversation_without_an_answer_is_asked_whole() -> None:
    talk = [said("user", "1"), said("tool", "2")]
    assert ask({"messages": talk}) == [talk]


def test_a_conversation_is_taught_as_it_came() -> None:
    talk = [said("user", "1"), said("assistant", "2"), said("user", "3"), said("assistant", "4", True)]
    assert teach({"messages": talk}, answers=["other"]) == [talk]


def test_a_drawn_system_message_heads_a_conversation_that_has_none() -> None:
    row = {"messages": TALK, "system": "Be brief."}
    assert ask(row)[0][0] == said("system", "Be brief.")
    assert teach(row, answers=["4"]) == [[said("system", "Be brief."), *TALK]]


def test_a_conversation_keeps_its_own_system_message() -> None:
    talk = [said("system", "Be rude."), *TALK]
    row = {"messages": talk, "system": "Be brief."}
    assert teach(row, answers=["4"]) == [talk]
    assert ask(row)[0][0] == said("system", "Be rude.")


def test_a_conversation_without_an_answer_is_taught_with_the_teachers() -> None:
    talk = [said("user", "1"), said("tool", "2")]
    assert teach({"messages": talk}, answers=["3"]) == [[*talk, said("assistant", "3", True)]]


def test_an_empty_conversation_asks_nothing() -> None:
    assert ask({"messages": []}) == [[]]


def test_questions_and_conversations_go_side_by_side() -> None:
    rows = [{"question": "Why?"}, {"messages": TALK}, {"question": "How?", "system": "S"}]
    assert [len(messages) for messages in teach(*rows, answers=["a", "b", "c"])] == [2, 4, 3]


def test_no_rows_give_no_rows() -> None:
    none = examples().head(0)
    for messages in (
        Direct().ask(examples=none),
        Direct().teach(examples=none, answers=pl.Series([], dtype=pl.String)),
    ):
        assert messages.dtype == messages_type()
        assert len(messages) == 0


def test_rows_under_direct_keep_their_own_words() -> None:
    assert Direct.keeps_own_words


def test_a_conversation_that_brings_no_answer_gets_the_teachers():
    taught = teach({"messages": [said("user", "Why?")]}, answers=["So."])
    assert taught == [[said("user", "Why?"), said("assistant", "So.", trained=True)]]
