"""Which rule an example falls under."""

import fnmatch
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orca_recipes.contract.frames import completed, examples_schema
from orca_recipes.recipe.rules import When
from orca_recipes.run.conversations.matching_rule import UNMATCHED, QuestionCounter, first_matching, fitting


class Words(QuestionCounter):
    """Counts words, and how many questions it was asked about."""

    def __init__(self) -> None:
        object.__setattr__(self, "asked", 0)

    def tokens(self, examples: pl.DataFrame) -> np.ndarray:
        object.__setattr__(self, "asked", self.asked + examples.height)
        return np.array([len(text.split()) for text in examples["question"]])


def examples(*rows: dict[str, Any]) -> pl.DataFrame:
    schema = examples_schema()
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["task"]
    return completed(pl.DataFrame(list(rows), schema={name: schema[name] for name in names}, orient="row"), schema)


def rules(rows: list[dict[str, Any]], *whens: When, counter: QuestionCounter | None = None) -> list[int]:
    return first_matching(examples(*rows), whens, counter).tolist()


def test_the_first_rule_that_matches_wins():
    rows = [{"task": "ab"}, {"task": "ax"}, {"task": "b"}]
    assert rules(rows, When(task=("ab",)), When(task=("a*",)), When()) == [0, 1, 2]


def test_rules_before_one_that_asks_columns_win_and_those_after_do_not():
    whens = [When(task=("a",)), When(where={"question": "x"}), When(where={"question": "x"}, min_tokens=2), When()]
    rows = [{"task": "a", "question": "x"}, {"task": "b", "question": "x"}, {"task": "b", "question": "y"}]
    assert rules(rows, *whens, counter=Words()) == [0, 1, 3]


def test_a_rule_asks_of_a_conversation_what_its_user_says_last_and_the_answer_that_ends_it():
    said = [("user", "1+1?"), ("assistant", "2"), ("user", "3+3?"), ("assistant", "6")]
    talk = [{"role": role, "content": text, "trained": False} for role, text in said]
    rows = [{"messages": talk}, {"messages": talk[:3]}, {"messages": talk[:2]}, {"question": "3+3?", "answer": "6"}]
    of_question, of_answer = When(where={"question": "3+3?"}), When(where={"answer": "6"})
    assert rules(rows, of_question, When()) == [0, 0, 1, 0]
    assert rules(rows, of_answer, When()) == [0, 1, 1, 0]


def test_a_rule_that_asks_nothing_of_columns_is_known_by_what_it_was_known_by():
    assert "where" not in When(task=("a",)).model_dump(mode="json")
    assert When(where={"task": "a"}).model_dump(mode="json", exclude_defaults=True) == {"where": {"task": "a"}}


@pytest.mark.parametrize(
    ("where", "said"),
    [({"quest": "x"}, 'no column "quest"; did you mean "question"'), ({"task": 3}, "is compared with a number")],
)
def test_a_rule_asks_only_columns_that_examples_have(where: dict[str, Any], said: str):
    with pytest.raises(ValidationError, match=said):
        When(where=where)


def test_an_example_that_no_rule_is_for_is_marked():
    assert rules([{"task": "a"}, {"task": None}], When(task=("b",))) == [UNMATCHED] * 2


@pytest.mark.parametrize(
    ("when", "row", "other"),
    [
        (When(category=("qa*",)), {"category": "qa-open"}, {"category": None}),
        (When(language=("en", "de")), {"language": "de"}, {"language": "fr"}),
        (When(reasoning=("hard",)), {"reasoning": "hard"}, {"reasoning": None}),
        (When(options=True), {"options": ["a", "b"]}, {"options": []}),
        (When(options=False), {"options": None}, {"options": ["a"]}),
        (When(where={"question": {"matches": "^Why"}}), {"question": "Why?"}, {"question": "How?"}),
        (When(where={"answer": {"null": True}}, task=("a",)), {"task": "a"}, {"task": "a", "answer": "b"}),
        (
            When(where={"extra.topic": {"in": ["x", "y"]}}),
            {"extra": [{"name": "level", "value": "z"}, {"name": "topic", "value": "y"}]},
            {"extra": [{"name": "level", "value": "y"}]},
        ),
        (
            When(where={"messages": {"turns": {"ge": 1}}}),
            {"messages": [{"role": "assistant", "content": "b", "trained": True}]},
            {"messages": [{"role": "user", "content": "b", "trained": False}]},
        ),
    ],
)
def test_every_condition_is_looked_at(when: When, row: dict[str, Any], other: dict[str, Any]):
    assert rules([row, other], when, When()) == [0, 1]


def test_all_conditions_of_a_rule_must_hold():
    when = When(task=("a",), language=("en",))
    assert rules([{"task": "a", "language": "en"}, {"task": "a", "language": "de"}], when, When()) == [0, 1]


def test_the_length_of_a_question_decides_in_tokens():
    rows = [{"task": "a", "question": "x " * count} for count in (1, 3, 5)]
    whens = (When(max_tokens=2), When(min_tokens=5, max_tokens=5), When())
    assert rules(rows, *whens, counter=Words()) == [0, 2, 1]


def test_questions_are_counted_only_where_it_can_matter():
    counter = Words()
    rows = [{"task": task, "question": "x y"} for task in "aaab"]
    assert rules(rows, When(task=("a",)), When(min_tokens=2), When(), counter=counter) == [0, 0, 0, 1]
    assert counter.asked == 1


WORD = st.none() | st.sampled_from(["a", "ab", "b", "[x]"])
PATTERNS = st.lists(st.sampled_from(["a", "a*", "?", "[[]x]", "c"]), min_size=1, max_size=2).map(tuple)
ROW = st.fixed_dictionaries(
    {
        "task": WORD,
        "language": WORD,
        "options": st.none() | st.just([]) | st.just(["o"]),
        "question": st.sampled_from(["x", "x x", "x x x"]),
    }
)
RULE = st.fixed_dictionaries(
    {},
    optional={
        "task": PATTERNS,
        "language": PATTERNS,
        "options": st.booleans(),
        "min_tokens": st.integers(1, 2),
        "max_tokens": st.integers(2, 3),
    },
).map(When.model_validate)


@given(rows=st.lists(ROW, min_size=1, max_size=6), whens=st.lists(RULE, min_size=1, max_size=4))
def test_columns_at_once_find_what_a_look_at_each_row_finds(rows: list[dict[str, Any]], whens: list[When]):
    def fits(row: dict[str, Any], when: When) -> bool:
        for name in ("task", "language"):
            globs = getattr(when, name)
            if globs and (row[name] is None or not any(fnmatch.fnmatchcase(row[name], glob) for glob in globs)):
                return False
        count = len(row["question"].split())
        return (
            (when.options is None or when.options == bool(row["options"]))
            and count >= (when.min_tokens or 0)
            and count <= (when.max_tokens or 9)
        )

    expected = [next((n for n, when in enumerate(whens) if fits(row, when)), UNMATCHED) for row in rows]
    assert rules(rows, *whens, counter=Words()) == expected


class Looked(dict[str, int]):
    """Words that count how often they were gone through."""

    times = 0

    def __iter__(self) -> Iterator[str]:
        self.times += 1
        return super().__iter__()


def test_a_rule_for_one_of_thousands_of_tasks_does_not_go_through_all_of_them():
    words = Looked({f"task {number}": number for number in range(100)})
    assert list(fitting(["task 7", "gone", "task 99"], words)) == ["task 7", "task 99"]
    assert words.times == 0
    assert list(fitting(["task ?7", "task [12]"], words)) == [
        *(f"task {ten}7" for ten in range(1, 10)),
        "task 1",
        "task 2",
    ]
    assert words.times == 2


def test_a_rule_for_each_of_many_tasks_gives_each_row_its_own():
    tasks = [f"task {number}" for number in range(300)]
    whens = [When(task=(task,)) for task in tasks]
    rows = [{"task": task} for task in reversed(tasks)]
    assert rules([*rows, {"task": None}], *whens) == [*reversed(range(300)), UNMATCHED]
