"""Rows are the same where every column holds the same, lists, structs and nulls through."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.run.tokens.same_rows import places_by_id, same_rows

MESSAGE = st.fixed_dictionaries({"role": st.sampled_from(["user", None]), "content": st.sampled_from(["", "a", "ab"])})
ROW = st.fixed_dictionaries(
    {
        "text": st.sampled_from([None, "", "a"]),
        "number": st.sampled_from([None, 0, 1]),
        "messages": st.none() | st.lists(MESSAGE, max_size=3),
    }
)
TYPES = pa.schema(
    {
        "text": pa.large_string(),
        "number": pa.int64(),
        "messages": pa.large_list(pa.struct({"role": pa.large_string(), "content": pa.large_string()})),
    }
)


def table(rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=TYPES)


@given(pairs=st.lists(st.tuples(ROW, ROW), max_size=8), start=st.integers(0, 3))
def test_rows_are_the_same_exactly_where_python_says_so(pairs: list[tuple[dict, dict]], start: int) -> None:
    one, other = (table([pair[side] for pair in pairs]).slice(start) for side in (0, 1))
    wanted = [left == right for left, right in pairs][start:]
    assert same_rows(one, other).tolist() == wanted
    assert same_rows(one, one).all()


def test_a_column_and_a_field_that_one_lacks_are_null_there() -> None:
    whole = table([{"text": "a", "number": 1, "messages": None}, {"text": "a", "number": None, "messages": None}])
    assert same_rows(whole, whole.drop_columns(["number"])).tolist() == [False, True]
    narrow = pa.table({"m": pa.array([[{"a": 1}], [{"a": 1}]], pa.large_list(pa.struct({"a": pa.int64()})))})
    wide = pa.large_list(pa.struct({"a": pa.int64(), "b": pa.int64()}))
    assert same_rows(narrow, pa.table({"m": pa.array([[{"a": 1}], [{"a": 1, "b": 2}]], wide)})).tolist() == [
        True,
        False,
    ]


def test_rows_are_found_by_both_halves_of_their_ids() -> None:
    def ids(*pairs: tuple[int, int]) -> pa.Table:
        halves = np.array(pairs, dtype=np.uint64).reshape(-1, 2)
        return pa.table({"id_hi": halves[:, 0].copy(), "id_lo": halves[:, 1].copy()})

    assert places_by_id(ids((1, 2), (1, 3), (2, 2)), ids((2, 2), (1, 1), (1, 2))).tolist() == [2, -1, 0]
    assert places_by_id(ids((1, 2)), ids()).tolist() == [-1]
