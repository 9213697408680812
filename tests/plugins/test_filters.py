"""Filters: which conversations are kept, and why the others are not."""

from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orca_plugins.filters.echo import Echo
from orca_plugins.filters.length import Length
from orca_recipes.contract.frames import completed, conversations_schema, messages_type


def conversations(*talks: list[tuple[str, str]]) -> pl.DataFrame:
    """Conversations of (role, content), whose assistant messages are trained."""
    messages = [
        [{"role": role, "content": text, "trained": role == "assistant"} for role, text in talk] for talk in talks
    ]
    return completed(pl.DataFrame({"messages": pl.Series(messages, dtype=messages_type())}), conversations_schema())


def reasons(filter: Length, *talks: list[tuple[str, str]]) -> list[str | None]:
    return filter.reasons(conversations=conversations(*talks)).to_list()


def talk(question: str, answer: str) -> list[tuple[str, str]]:
    return [("user", question), ("assistant", answer)]


def test_a_conversation_counts_all_its_messages_together() -> None:
    found = reasons(Length(max_chars=5), talk("123", "45"), talk("123", "456"))
    assert found == [None, "too long: more than 5 characters"]


def test_a_short_conversation_is_rejected() -> None:
    assert reasons(Length(min_chars=5), talk("12", "34"), talk("12", "345")) == [
        "too short: fewer than 5 characters",
        None,
    ]


def test_an_answer_counts_what_is_trained_alone() -> None:
    filter = Length(min_answer_chars=2, max_answer_chars=3)
    assert reasons(filter, talk("a long question", "1"), talk("", "12"), talk("", "123"), talk("", "1234")) == [
        "answer too short: fewer than 2 characters",
        None,
        None,
        "answer too long: more than 3 characters",
    ]


def test_answers_of_several_turns_count_together() -> None:
    assert reasons(Length(max_answer_chars=3), talk("1", "22") + talk("3", "44")) == [
        "answer too long: more than 3 characters"
    ]


def test_thoughts_and_calls_of_tools_count_as_parts_of_their_message() -> None:
    call = '[{"type":"function","function":{"name":"add","arguments":{}}}]'
    thinks = {"role": "assistant", "content": "4", "trained": True, "reasoning": "2 + 2", "tool_calls": None}
    calls = {**thinks, "content": "", "reasoning": None, "tool_calls": call}
    frame = pl.DataFrame({"messages": pl.Series([[thinks], [calls]], dtype=messages_type())})
    rows = completed(frame, conversations_schema())
    assert Length(min_answer_chars=1).reasons(conversations=rows).to_list() == [None, None]
    assert Length(max_chars=5).reasons(conversations=rows).to_list() == ["too long: more than 5 characters"] * 2
    kept = [reason is None for reason in Length(min_chars=7).reasons(conversations=rows)]
    assert kept == [False, True]
    assert Length(max_answer_chars=6).reasons(conversations=rows)[0] is None
    assert Length(max_chars=len(call)).reasons(conversations=rows)[1] is None


def test_characters_are_code_points() -> None:
    assert reasons(Length(max_chars=3), talk("漢字", "é"), talk("漢字", "👩‍🔬")) == [
        None,
        "too long: more than 3 characters",
    ]


def test_a_conversation_without_trained_words_has_an_answer_of_no_characters() -> None:
    assert (
        reasons(Length(min_answer_chars=1), [("user", "why?")], []) == ["answer too short: fewer than 1 characters"] * 2
    )


def test_without_limits_everything_is_kept() -> None:
    assert reasons(Length(), talk("1", "2"), []) == [None, None]


def test_a_reason_names_the_limit_and_not_the_row() -> None:
    found = reasons(Length(max_chars=2), talk("123", ""), talk("12345", ""))
    assert found[0] == found[1]


@pytest.mark.parametrize(("low", "high"), [("min_chars", "max_chars"), ("min_answer_chars", "max_answer_chars")])
def test_limits_that_keep_nothing_are_refused(low: str, high: str) -> None:
    with pytest.raises(ValidationError, match=f"{low} = 3 is above {high} = 2"):
        Length(**{low: 3, high: 2})


texts = st.text(max_size=6)
limits = st.none() | st.integers(0, 8)


@given(
    st.lists(st.lists(st.tuples(st.sampled_from(["user", "assistant"]), texts), max_size=3), max_size=5), limits, limits
)
def test_a_conversation_is_kept_exactly_within_its_limits(talks: Any, low: int | None, high: int | None) -> None:
    if low is not None and high is not None and low > high:
        low, high = high, low
    kept = [reason is None for reason in reasons(Length(min_chars=low, max_answer_chars=high), *talks)]
    assert kept == [
        (low is None or sum(len(text) for _, text in one) >= low)
        and (high is None or sum(len(text) for role, text in one if role == "assistant") <= high)
        for one in talks
    ]


def test_an_echo_is_an_answer_that_quotes_its_instruction():
    told = "Work this out one step at a time, and write every step down."
    rows = [(f"As I was told: {told}", told), ("It is 4.", told), (told, None), (None, told)]
    answers, instructions = zip(*rows, strict=True)
    frame = pl.DataFrame({"answer": answers, "instruction": instructions})
    reasons = Echo().reasons(conversations=completed(frame, conversations_schema()))
    assert reasons.to_list() == ["it quotes the instruction", None, None, None]
