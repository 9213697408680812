"""What no row has lies in no store, and comes back as nulls."""

from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.contract.frames import (
    BESIDE_CONTENT,
    BESIDE_MESSAGES,
    TRAIN_ON,
    UNTRAINED,
    completed,
    stored_conversations_schema,
)
from orca_recipes.store.narrow_tables import narrow, whole

SAYS = st.none() | st.text(max_size=3)
MESSAGE = st.none() | st.fixed_dictionaries(
    {"role": SAYS, "content": SAYS, "trained": st.none() | st.booleans()}, optional=dict.fromkeys(BESIDE_CONTENT, SAYS)
)
ROW = st.fixed_dictionaries(
    {"messages": st.none() | st.lists(MESSAGE, max_size=3)}, optional=dict.fromkeys(BESIDE_MESSAGES, SAYS)
)


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    return pl.DataFrame(rows, schema=stored_conversations_schema()).to_arrow()


@given(rows=st.lists(ROW, max_size=6), cut=st.tuples(st.integers(0, 6), st.integers(0, 6)))
def test_a_table_that_was_narrowed_is_whole_again(rows: list[dict[str, Any]], cut: tuple[int, int]) -> None:
    table = table_of(rows).slice(*cut)
    again = whole(narrow(table))
    assert again.to_pylist() == table.to_pylist()
    assert completed(pl.DataFrame(narrow(table)), stored_conversations_schema()).to_arrow().equals(table)
    again.validate(full=True)


@pytest.mark.parametrize("name", [*BESIDE_MESSAGES, TRAIN_ON, UNTRAINED])
def test_parts_of_which_one_alone_has_a_column_are_joined(name: str) -> None:
    held, without = (whole(narrow(table_of([{"teacher": "t", name: value}]))) for value in ("[]", None))
    assert pa.concat_tables([held, without])[name].to_pylist() == ["[]", None]
    assert pa.concat_tables([without, held])[name].to_pylist() == [None, "[]"]


def test_plain_conversations_lie_as_they_did_before_messages_could_hold_more() -> None:
    said = {"role": "user", "content": "Hi", "trained": False}
    plain = narrow(table_of([{"messages": [said]}, {"messages": None}]))
    assert not set(BESIDE_MESSAGES) & set(plain.column_names)
    assert [field.name for field in plain["messages"].type.value_type.fields] == ["role", "content", "trained"]
    told = narrow(table_of([{"messages": [said, {**said, "name": "Ann"}], "tools": "[]"}]))
    assert [field.name for field in told["messages"].type.value_type.fields] == ["role", "content", "trained", "name"]
    assert set(BESIDE_MESSAGES) & set(told.column_names) == {"tools"}


def test_parts_of_different_width_are_joined_once_they_are_whole() -> None:
    said = {"role": "user", "content": "Hi", "trained": False}
    parts = [table_of([{"messages": [{**said, **more}]}]) for more in ({}, {"reasoning": "So."}, {"name": "Ann"})]
    joined = pa.concat_tables([whole(narrow(part)) for part in parts])
    assert joined.to_pylist() == pa.concat_tables(parts).to_pylist()
