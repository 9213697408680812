"""Teachers: who answers, and with what."""

from typing import Any

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from orca_plugins.teachers.reference import Reference
from orca_recipes.contract.draws import splitmix64
from orca_recipes.contract.frames import answers_schema, completed, examples_schema, messages_type
from orca_recipes.contract.testing import check_kind


def examples(*rows: dict[str, Any]) -> pl.DataFrame:
    schema = examples_schema()
    named = [{"answer": None, "references": None, "messages": None, **row} for row in rows]
    frame = pl.DataFrame(named, schema={name: schema[name] for name in ("answer", "references", "messages")})
    keys = splitmix64(np.arange(2 * len(rows), dtype=np.uint64))
    ids = frame.with_columns(pl.Series("id_hi", keys[: len(rows)]), pl.Series("id_lo", keys[len(rows) :]))
    return completed(ids, schema)


def answered(frame: pl.DataFrame, seed: int = 0) -> pl.DataFrame:
    requests = pl.Series([None] * len(frame), dtype=messages_type())
    return Reference().answer(examples=frame, requests=requests, seed=seed)


def test_the_only_reference_is_the_answer() -> None:
    assert answered(examples({"references": ["yes"]})).rows() == [("yes", "stop", None)]


def test_a_row_that_brings_its_answer_keeps_it() -> None:
    assert answered(examples({"answer": "mine", "references": ["yes"]}))["answer"].to_list() == ["mine"]


def talk(*messages: tuple[str, str], trained: bool = False) -> list[dict[str, Any]]:
    return [{"role": role, "content": text, "trained": trained and role == "assistant"} for role, text in messages]


def test_the_answer_that_ends_a_conversation_is_its_answer() -> None:
    messages = talk(("user", "1"), ("assistant", "2"), ("assistant", "3"))
    assert answered(examples({"messages": messages, "references": ["yes"]})).rows() == [("3", "stop", None)]


def test_a_conversation_that_ends_on_a_user_is_answered_by_a_reference() -> None:
    messages = talk(("user", "1"), ("assistant", "2"), ("user", "3"), trained=True)
    assert answered(examples({"messages": messages, "references": ["yes"]})).rows() == [("yes", "stop", None)]


def test_a_conversation_that_nobody_answers_keeps_the_answers_that_it_holds() -> None:
    messages = talk(("user", "1"), ("assistant", "2"), ("user", "3"), trained=True)
    assert answered(examples({"messages": messages})).rows() == [(None, None, None)]


def test_a_row_without_any_answer_is_rejected_with_a_reason() -> None:
    question = [{"role": "user", "content": "1", "trained": False}]
    rows = answered(examples({}, {"references": []}, {"references": [None]}, {"messages": question})).rows()
    assert rows == [(None, None, "no reference answer")] * 4


def test_one_of_several_references_is_drawn_and_each_has_its_turn() -> None:
    drawn = answered(examples(*[{"references": ["a", "b", "c"]}] * 3000))["answer"]
    counts = dict(drawn.value_counts().iter_rows())
    assert set(counts) == {"a", "b", "c"}
    assert min(counts.values()) > 900


def test_another_seed_draws_other_references() -> None:
    frame = examples(*[{"references": ["a", "b"]}] * 100)
    assert answered(frame, seed=1)["answer"].to_list() == answered(frame, seed=1)["answer"].to_list()
    assert answered(frame, seed=1)["answer"].to_list() != answered(frame, seed=2)["answer"].to_list()


@given(st.lists(st.lists(st.text(max_size=2), max_size=4), max_size=8), st.randoms(use_true_random=False))
def test_a_draw_depends_on_the_example_and_on_nothing_beside_it(references: list[list[str]], random: Any) -> None:
    frame = examples(*[{"references": texts} for texts in references])
    whole = answered(frame)
    order = list(range(len(references)))
    random.shuffle(order)
    assert answered(frame[order]).equals(whole[order])
    for place, texts in enumerate(references):
        assert whole["answer"][place] in (texts or [None])


def test_no_rows_give_no_rows() -> None:
    assert dict(answered(examples()).schema) == answers_schema()


def test_the_reference_teacher_keeps_the_promises_of_a_kind() -> None:
    check_kind(Reference())
