"""The teacher's view is told by the student's."""

import json
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.contract.frames import BESIDE_CONTENT, messages_type
from orca_recipes.run.conversations.views import asked_messages, erased_texts, teacher_view, without_system


def said(*turns: tuple[str, str]) -> list[dict[str, Any]]:
    plain = {"trained": False, **dict.fromkeys(BESIDE_CONTENT)}
    return [{"role": role, "content": content, **plain} for role, content in turns]


def view(
    asked: list[dict[str, Any]] | None, taught: list[dict[str, Any]], system: str | None = None
) -> tuple[Any, Any]:
    series = (pl.Series([messages], dtype=messages_type()) for messages in (asked, taught))
    found = teacher_view(*series, pl.Series([system], dtype=pl.String))
    told = found.told[0]
    return (None if told is None else json.loads(told)), found.instruction[0]


QUESTION, ANSWER = ("user", "Why?"), ("assistant", "So.")


def test_words_of_the_teachers_own_are_told_and_the_question_is_named_by_its_number():
    assert view(said(("system", "Think."), QUESTION), said(QUESTION, ANSWER)) == (
        [["system", "Think."], ["user", 0]],
        "Think.",
    )


def test_words_around_the_question_are_cut_at_it():
    told, instruction = view(said(("user", "Read: Why? Go.")), said(QUESTION, ANSWER))
    assert told == [["user", "Read: ", 0, " Go."]]
    assert instruction == "Read: \n Go."


def test_the_students_system_message_is_no_secret_of_the_teachers():
    asked = said(("system", "Be kind.\n\nThink."), QUESTION)
    told, instruction = view(asked, said(("system", "Be kind."), QUESTION, ANSWER), system="Be kind.")
    assert told == [["system", -1, "\n\nThink."], ["user", 0]]
    assert instruction == "Think."


def test_what_a_strategy_leaves_in_the_system_message_by_mistake_is_still_told():
    asked = said(("system", "Think."), QUESTION)
    assert view(asked, said(("system", "Think."), QUESTION, ANSWER), system="Be kind.")[1] == "Think."


def test_turns_before_the_question_are_named_by_number():
    turns = (("user", "1"), ("assistant", "2"), QUESTION)
    assert view(said(*turns), said(*turns, ANSWER)) == ([["user", 0], ["assistant", 1], ["user", 2]], None)


def test_where_nothing_was_asked_there_is_nothing_to_tell():
    assert view(None, said(QUESTION, ANSWER)) == (None, None)


def test_conversations_lose_their_system_messages_and_nothing_else():
    talks = pl.Series([said(("system", "S"), QUESTION), None, []], dtype=messages_type())
    assert without_system(talks).to_list() == [said(QUESTION), None, []]


def _headed(system: str | None, talk: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [("system", system), *talk] if system else talk


TEXT = st.sampled_from(["", "a", "b", "a b", '"q"\n', "long words here"])
TALK = st.lists(st.tuples(st.sampled_from(["user", "assistant"]), TEXT), max_size=3)
EXCHANGE = st.tuples(st.none() | TEXT, TALK, st.none() | TEXT, TALK, st.booleans())


@given(exchanges=st.lists(EXCHANGE, min_size=1, max_size=6))
def test_both_views_give_back_what_was_asked(exchanges: list[Any]):
    asked = [said(*_headed(head, talk)) if there else None for head, talk, _, _, there in exchanges]
    taught = [said(*_headed(system, talk)) for _, _, system, talk, _ in exchanges]
    systems = pl.Series([system for _, _, system, _, _ in exchanges], dtype=pl.String)
    found = teacher_view(pl.Series(asked, dtype=messages_type()), pl.Series(taught, dtype=messages_type()), systems)
    for messages, student, told in zip(asked, taught, found.told, strict=True):
        assert (told is None) == (messages is None)
        if messages is not None:
            assert asked_messages(told, student) == [(one["role"], one["content"]) for one in messages]
            assert all(text in "\n".join(one["content"] for one in messages) for text in erased_texts(told))
