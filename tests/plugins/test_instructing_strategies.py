"""Strategies with words of their own: what the teacher is told, and that none of it is left for the student."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from orca_plugins.strategies.explain_then_answer import ExplainThenAnswer
from orca_plugins.strategies.extract_generate import ExtractGenerate
from orca_plugins.strategies.few_shot import FewShot
from orca_plugins.strategies.instruct import Instruct
from orca_plugins.strategies.recall_reason_generate import RecallReasonGenerate
from orca_plugins.strategies.recall_then_generate import RecallThenGenerate
from orca_plugins.strategies.step_by_step import StepByStep
from orca_recipes.contract.frames import completed, examples_schema
from orca_recipes.contract.kinds import Strategy
from orca_recipes.errors import SourceError

INSTRUCTING = (ExplainThenAnswer, ExtractGenerate, RecallReasonGenerate, RecallThenGenerate, StepByStep)


def examples(*rows: dict[str, Any]) -> pl.DataFrame:
    schema = examples_schema()
    names = list(dict.fromkeys(name for row in rows for name in row))
    return completed(pl.DataFrame(list(rows), schema={name: schema[name] for name in names}, orient="row"), schema)


def asked(strategy: Strategy, *rows: dict[str, Any]) -> list[Any]:
    found = strategy.ask(examples=examples(*rows)).to_list()
    return [messages and [(one["role"], one["content"]) for one in messages] for messages in found]


def taught(strategy: Strategy, row: dict[str, Any], answer: str) -> list[tuple[str, str, bool]]:
    (messages,) = strategy.teach(examples=examples(row), answers=pl.Series([answer])).to_list()
    return [(one["role"], one["content"], one["trained"]) for one in messages]


@pytest.mark.parametrize("kind", INSTRUCTING)
def test_the_words_stand_after_the_system_message_and_the_question_as_it_is(kind: Callable[[], Strategy]):
    ((system, question),) = asked(kind(), {"question": "Why?", "system": "Be kind."})
    assert system[0] == "system"
    assert system[1].startswith("Be kind.\n\n")
    assert len(system[1]) > 80
    assert question == ("user", "Why?")


@pytest.mark.parametrize("kind", INSTRUCTING)
def test_the_student_sees_question_and_answer_alone(kind: Callable[[], Strategy]):
    assert taught(kind(), {"question": "Why?"}, "So.") == [("user", "Why?", False), ("assistant", "So.", True)]


def test_no_two_strategies_say_the_same():
    assert len({asked(kind(), {"question": "q"})[0][0] for kind in INSTRUCTING}) == len(INSTRUCTING)


def test_a_prompt_that_is_not_erased_is_taught_whole():
    messages = (
        StepByStep().teach_whole(examples=examples({"question": "Why?"}), answers=pl.Series(["So."]))[0].to_list()
    )
    assert [one["role"] for one in messages] == ["system", "user", "assistant"]
    assert [one["trained"] for one in messages] == [False, False, True]


def test_a_table_gives_words_by_task_then_category_then_default(tmp_path: Path):
    path = tmp_path / "words.toml"
    path.write_text('default = "D"\n[tasks]\n"a*" = "A"\n[categories]\nmath = "M"\n')
    rows = [
        {"question": "q", "task": task, "category": category}
        for task, category in (("ab", "math"), ("b", "math"), ("b", None))
    ]
    assert [messages[0][1] for messages in asked(StepByStep(instructions=path), *rows)] == ["A", "M", "D"]


def test_the_words_of_a_table_are_part_of_what_is_built(tmp_path: Path):
    path = tmp_path / "words.toml"
    path.write_text('default = "D"\n')
    before = StepByStep(instructions=path).identity()
    path.write_text('default = "E"\n')
    assert StepByStep(instructions=path).identity() != before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("default = 1", "default must be words"),
        ('tasks = "x"', "tasks must be a table of words"),
        ("[task]", "it holds 'task'"),
        ("", "it holds no words"),
        ("=", "it is not TOML"),
    ],
)
def test_a_table_that_is_none_is_refused_in_a_sentence(tmp_path: Path, text: str, said: str):
    (tmp_path / "words.toml").write_text(text)
    with pytest.raises(ValidationError, match=said):
        StepByStep(instructions=tmp_path / "words.toml")


def test_a_conversation_that_a_row_brings_has_no_question_to_ask():
    talk = [{"role": "user", "content": "Hi", "trained": False}]
    assert asked(StepByStep(), {"messages": talk, "question": None}) == [None]


# --- instruct --------------------------------------------------------------------------------------------------------

ROW: dict[str, Any] = {
    "question": "{options} or {hint}?",
    "options": ["{question}", "no"],
    "extra": [{"name": "hint", "value": "{question}"}],
}


def test_the_recipes_words_are_filled_in_and_what_rows_hold_is_not_looked_at_again():
    strategy = Instruct(system="Hint: {hint}", prompt="{question}\n{options}\n{{done}}")
    assert asked(strategy, ROW) == [
        [
            ("system", "Hint: {question}"),
            ("user", "{options} or {hint}?\n(A) {question}\n(B) no\n{done}"),
        ]
    ]


def test_a_row_that_lacks_a_column_is_not_asked():
    rows = [ROW, {**ROW, "options": None}, {**ROW, "extra": None}]
    strategy = Instruct(prompt="{question} {options} {hint}")
    assert [messages is None for messages in asked(strategy, *rows)] == [False, True, True]


def test_a_column_that_no_row_has_is_a_fault_of_the_recipe():
    with pytest.raises(SourceError, match=r'\{hnt\}.*did you mean "hint"'):
        asked(Instruct(prompt="{question} {hnt}"), ROW)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompt": "{question"}, "prompt: "),
        ({"prompt": "{question!r}"}, "braces must hold a name"),
        ({"prompt": "no question"}, "it must hold {question}"),
        ({}, "there are no words"),
    ],
)
def test_words_that_cannot_be_filled_in_are_refused(options: dict[str, str], said: str):
    with pytest.raises(ValidationError, match=said):
        Instruct(**options)


# --- few_shot --------------------------------------------------------------------------------------------------------


def test_shots_are_turns_before_the_question_and_only_the_answer_is_trained():
    row = {"question": "q", "system": "S", "shots": [{"question": f"q{n}", "answer": f"a{n}"} for n in range(3)]}
    turns = [
        ("user", "q0"),
        ("assistant", "a0"),
        ("user", "q1"),
        ("assistant", "a1"),
        ("user", "q2"),
        ("assistant", "a2"),
    ]
    assert asked(FewShot(), row) == [[("system", "S"), *turns, ("user", "q")]]
    told = taught(FewShot(), row, "So.")
    assert [trained for *_, trained in told] == [False] * 8 + [True]


def test_a_row_that_brings_its_answer_keeps_it_behind_shots():
    row = {"question": "q", "answer": "own", "shots": [{"question": "x", "answer": "y"}]}
    assert taught(FewShot(), row, "teacher's")[-1] == ("assistant", "own", True)


def test_fewest_may_not_be_above_most():
    with pytest.raises(ValidationError, match="fewest = 4 is above most = 3"):
        FewShot(fewest=4, most=3)
