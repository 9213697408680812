"""Filters of answers: finished, not refusing, right, no echo of the question, not going in circles."""

import re
import tomllib
from importlib import resources
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca_plugins.filters._final_answers import matches, sort_of
from orca_plugins.filters._numbers import numbers_in
from orca_plugins.filters.answer_matches import AnswerMatches
from orca_plugins.filters.contains_prompt import ContainsPrompt
from orca_plugins.filters.finish import Finish
from orca_plugins.filters.refusal import Refusal
from orca_plugins.filters.repetition import Repetition
from orca_recipes.contract.frames import completed, conversations_schema, messages_type
from orca_recipes.contract.kinds import Filter
from orca_recipes.contract.samples import sample_conversations
from orca_recipes.contract.testing import check_kind

KINDS = [AnswerMatches(), ContainsPrompt(), Finish(), Refusal(), Repetition()]


def reason(filter: Filter, **row: Any) -> str | None:
    """What a filter says of one row."""
    schema = conversations_schema()
    frame = pl.DataFrame({name: [value] for name, value in row.items()}, schema={name: schema[name] for name in row})
    (found,) = filter.reasons(conversations=completed(frame, schema)).to_list()
    return found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_a_filter_of_answers_keeps_the_promises_of_a_kind(kind: Filter) -> None:
    check_kind(kind)
    sample = sample_conversations()
    found = kind.reasons(conversations=sample)
    assert (len(found), found.dtype) == (sample.height, pl.String)
    assert kind.reasons(conversations=sample.head(0)).len() == 0


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_rows_that_nobody_was_asked_for_are_kept(kind: Filter) -> None:
    assert reason(kind, question=None, answer=None, finish_reason=None) is None


@pytest.mark.parametrize(
    ("finish_reason", "told"),
    [
        ("stop", None),
        (None, None),
        ("length", "not finished: cut by max_tokens"),
        ("\x1b[31m", "not finished: another reason than those that are kept"),
    ],
)
def test_finish_keeps_answers_that_ended_by_themselves(finish_reason: str | None, told: str | None) -> None:
    assert reason(Finish(), finish_reason=finish_reason) == told
    assert reason(Finish(allowed=("stop", "length")), finish_reason="length") is None


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "I\u2019m sorry, but I cannot assist with that request.",
        "As an AI language model, I cannot have opinions.",
        "As an artificial intelligence, I do not feel.",
        "I am an AI assistant and I'm not able to browse.",
        "Unfortunately, I am unable to answer this.",
        "I apologize, but I must decline.",
        "I cannot fulfill this request.",
        "That is against my programming.",
        "I must respectfully decline to answer.",
        "Sorry, but this request violates policy.",
    ],
)
def test_answers_that_refuse_are_rejected(answer: str) -> None:
    assert reason(Refusal(), answer=answer) == "it refuses the question"


@pytest.mark.parametrize(
    "answer",
    [
        "The answer is 4.",
        "He said that he was sorry, but he could not come.",
        "The premise does not follow, so the answer is no. I cannot be both.",
        "A refusal begins with words like these: 'declined', 'no', and so on.",
        "As an example, I cannot be divided by zero.",
        "Sorry is a word of five letters.",
        "I can't be seen, but I can be felt. What am I? The wind.",
    ],
)
def test_answers_that_only_speak_of_refusing_are_kept(answer: str) -> None:
    assert reason(Refusal(), answer=answer) is None


def test_the_patterns_of_refusals_are_patterns_for_python_too() -> None:
    data = resources.files("orca_plugins.filters").joinpath("refusals.toml").read_text()
    for pattern in tomllib.loads(data)["patterns"]:
        assert re.compile(pattern, re.IGNORECASE)


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("So 3 + 4 = 7. The answer is 7.", "7", True),
        ("The answer is 7, not 8.", "7", True),
        ("The answer is 7, not 8.", "8", False),
        ("The answer is not 8 but 7.", "7", True),
        ("The answer is 7 rather than 8", "8", False),
        ("It is 7; it isn't 8.", "7", True),
        ("The answer is not 8.", "8", False),
        ("The answer is 3 + 4 = 7.", "7", True),
        ("It is 1,234.50 in all.", "1234.5", True),
        ("Half of it: 1/2", "0.5", True),
        ("That takes 1 1/2 hours.", "90 minutes", True),
        ("The answer is 90 min", "1.5 hours", True),
        ("90 seconds", "90 minutes", False),
        ("They have 3 apples", "3", True),
        ("3 hours", "3", True),
        ("50%", "50", True),
        ("#### -12", "-12", True),
        ("It costs $5.", "5 dollars", True),
        ("\\boxed{42}", "42", True),
        ("5-3 = 2", "2", True),
        ("\u22123 degrees", "-3", True),
        ("The answer is 17.", "7", False),
        ("no number at all", "7", False),
        ("7 is too small.\nSo it is 8", "7", False),
    ],
)
def test_a_number_is_compared_by_its_value_and_unit(answer: str, reference: str, right: bool) -> None:
    assert matches(answer, reference, "number", None) is right


@pytest.mark.parametrize(
    ("answer", "reference", "options", "right"),
    [
        ("The answer is (B).", "B", ["1", "2", "3"], True),
        ("The answer is B) 2", "B", ["1", "2", "3"], True),
        ("Therefore, the correct option is: C", "(C)", ["1", "2", "3"], True),
        ("A is wrong, so it must be B.", "B", ["1", "2"], True),
        ("B", "B", [], True),
        ("b.", "B", [], True),
        ("The answer is Paris.", "B", ["Rome", "Paris"], True),
        ("The answer is Paris.", "Paris", ["(A) Rome", "(B) Paris"], True),
        ("I think so. The answer is (A)", "B", ["1", "2"], False),
        ("I like a good question", "A", ["1", "2"], False),
        ("Rome or Paris", "B", ["Rome", "Paris"], False),
        ("So it is B, not C.", "B", ["1", "2", "3"], True),
        ("So it is B, not C.", "C", ["1", "2", "3"], False),
        ("The answer is not C but B.", "B", ["1", "2", "3"], True),
        ("The answer is not guilty.", "B", ["guilty as charged", "not guilty"], True),
    ],
)
def test_a_choice_is_a_letter_or_the_words_of_one_option(
    answer: str, reference: str, options: list[str], right: bool
) -> None:
    assert matches(answer, reference, "choice", options) is right


@pytest.mark.parametrize(
    ("answer", "reference", "sort", "right"),
    [
        ("Yes, because it rains.", "yes", "yes_no", True),
        ("It rains. So the answer is no.", "No", "yes_no", True),
        ("Let us see. It is true.", "True", "yes_no", True),
        ("Nobody knows.", "no", "yes_no", False),
        ("The answer is the Eiffel Tower.", "Eiffel tower", "text", True),
        ("Paris", "paris", "text", True),
        ("It was built in Paris", "Paris", "text", True),
        ("Paris is not the answer, Rome is", "Paris", "text", False),
        ("The answer is Paris, not Rome.", "Paris", "text", True),
        ("The answer is Paris, not Rome.", "Rome", "text", False),
        ("So she was not guilty", "not guilty", "text", True),
        ("No, it is not true.", "no", "yes_no", True),
        ("No, it is not true.", "yes", "yes_no", False),
        ("", "Paris", "text", False),
    ],
)
def test_yes_no_and_text_are_compared_as_people_read_them(answer: str, reference: str, sort: Any, right: bool) -> None:
    assert matches(answer, reference, sort, None) is right


def test_the_sort_of_an_answer_is_told_by_its_reference_or_by_its_task() -> None:
    assert [sort_of(text, None) for text in ("B", "(c)", "12 hours", "No.", "the Eiffel Tower")] == [
        "choice",
        "choice",
        "number",
        "yes_no",
        "text",
    ]
    row = {"task": "years", "references": ["1990"], "answer": "The answer is 1990, or nearly"}
    assert reason(AnswerMatches(), **row) is None
    assert reason(AnswerMatches(tasks={"y*": "text"}), **row) is None
    wrong = {**row, "answer": "1991"}
    assert reason(AnswerMatches(), **wrong) == "its final answer is not the reference's"
    assert reason(AnswerMatches(), **{**wrong, "references": ["1990", "1991"]}) is None
    assert reason(AnswerMatches(), **{**wrong, "references": None}) is None


@given(st.text())
def test_no_text_breaks_the_reading_of_answers(text: str) -> None:
    numbers_in(text)
    for reference in ("B", "7", "yes", "the words", text):
        sort = sort_of(reference, None)
        matches(text, reference, sort, ["one", text])


@given(st.fractions(min_value=0, max_value=10**9, max_denominator=999))
def test_a_number_comes_to_itself_however_it_is_written(value: Any) -> None:
    (whole, rest) = divmod(value.numerator, value.denominator)
    written = f"{value.numerator}/{value.denominator}" if rest else f"{whole:,}"
    assert matches(f"The answer is {written}.", f"{value.numerator}/{value.denominator}", "number", None)
    mixed = f"{whole} {rest}/{value.denominator}" if rest and whole else written
    assert matches(f"The answer is {mixed}.", written, "number", None)


def test_an_answer_that_holds_the_whole_question_is_rejected_and_a_quote_is_kept() -> None:
    question = "Why is the sky so blue today over the old town?"
    again = "You asked: WHY is the  sky so blue\ntoday over the old town? Because."
    assert reason(ContainsPrompt(), question=question, answer=again) == "it repeats the question"
    assert reason(ContainsPrompt(), question=question, answer="Why is the sky so blue? Because.") is None
    assert reason(ContainsPrompt(), question="Why?", answer="Why? Because.") is None
    assert reason(ContainsPrompt(min_words=1), question="Why?", answer="Why? Because.") is not None


def test_an_answer_that_goes_in_circles_is_rejected() -> None:
    circle = "and then the man went to the market again " * 8
    plain = " ".join(f"word{number}" for number in range(80))
    assert reason(Repetition(), answer=circle) == "it repeats itself"
    assert reason(Repetition(), answer=plain) is None
    assert reason(Repetition(), answer="no no no no") is None
    assert reason(Repetition(max_share=1.0), answer=circle) is None


def chat(*turns: tuple[str, str, bool]) -> pl.DataFrame:
    """One conversation that a row brings: (role, content, trained)."""
    messages = [{"role": role, "content": text, "trained": trained} for role, text, trained in turns]
    answer = [text for role, text, _ in turns if role == "assistant"][-1]
    frame = pl.DataFrame({"messages": pl.Series([messages], dtype=messages_type()), "answer": [answer]})
    return completed(frame, conversations_schema())


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        (Refusal(), "I'm sorry, but I can't help with that."),
        (Repetition(min_words=6, run_words=2), "on and on and on and on and on"),
        (ContainsPrompt(min_words=3), "You ask: how far is it? It is far."),
    ],
    ids=lambda value: value.kind if isinstance(value, Filter) else "",
)
def test_an_earlier_answer_of_a_conversation_is_judged_where_it_is_trained(kind: Filter, answer: str) -> None:
    asked, last = ("user", "How far is it?", False), [("user", "And now?", False), ("assistant", "Two miles.", True)]
    assert kind.reasons(conversations=chat(asked, ("assistant", answer, True), *last)).null_count() == 0
    assert kind.reasons(conversations=chat(asked, ("assistant", answer, False), *last)).null_count() == 1
    assert kind.reasons(conversations=chat(asked, ("assistant", answer, True))).null_count() == 0


def test_every_conversation_of_several_gets_its_own_verdict() -> None:
    asked, no, yes = (
        ("user", "How far is it?", False),
        ("assistant", "I cannot help with that.", True),
        ("assistant", "Two miles.", True),
    )
    talks = [chat(asked, yes), chat(asked, no, asked, yes), chat(asked, yes, asked, yes), chat(asked, yes, asked, no)]
    rows = completed(pl.DataFrame({"question": ["?"] * 2, "answer": ["I cannot help.", "4"]}), conversations_schema())
    found = Refusal().reasons(conversations=pl.concat([rows, *talks]))
    assert found.is_not_null().to_list() == [True, False, False, True, False, True]
