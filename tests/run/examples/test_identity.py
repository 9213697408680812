"""What an example's id is made of: the digest of one text that holds all that the row says."""

import hashlib
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.contract.draws import splitmix64
from orca_recipes.contract.frames import BESIDE_CONTENT, BESIDE_MESSAGES, rows_schema
from orca_recipes.run.examples import identity
from orca_recipes.run.examples.identity import CONTRADICTED, FREE, repeats_of, with_identity

TEXTS = st.sampled_from(["", "a", "1:a", "-", "é", "😀\0", "<|im_end|>", "x" * 1000]) | st.text(max_size=5)
GIVEN = st.none() | TEXTS
MESSAGES = st.fixed_dictionaries(
    {"role": GIVEN, "content": GIVEN, "trained": st.none() | st.booleans()},
    optional=dict.fromkeys(BESIDE_CONTENT, GIVEN),
)
OTHERS = st.fixed_dictionaries({"name": TEXTS, "value": GIVEN})
ROWS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            ("id", "question", "system", "answer", "category", "language", "reasoning", *BESIDE_MESSAGES),
            GIVEN,
        ),
        "task": TEXTS,
        "references": st.none() | st.lists(GIVEN, max_size=3),
        "options": st.none() | st.lists(TEXTS, max_size=3),
        "messages": st.none() | st.lists(MESSAGES, max_size=3),
        "extra": st.none() | st.lists(OTHERS, max_size=2),
    },
)


def measured(value: Any) -> str:
    """One value, told so that it can be told apart: the slow and obvious way."""
    match value:
        case None:
            return "-"
        case bool():
            return measured(str(value).lower())
        case dict():
            # What a message has beside content is nothing at all where it has none.
            told = "".join(
                measured(part) for name, part in value.items() if "role" not in value or name not in BESIDE_CONTENT
            )
            given = [name for name in BESIDE_CONTENT if "role" in value and value[name] is not None]
            return told + "".join("+" + measured(name) + measured(value[name]) for name in given)
        case list():
            # Elements of a struct follow each other; texts are measured one by one.
            return measured("".join(measured(item) for item in value))
    return f"{len(value.encode())}:{value}"


def content_of(row: dict[str, Any]) -> str:
    always = ("task", "question", "references", "system", "answer", "messages")
    given = [name for name in ("options", "language", "reasoning", "extra", *BESIDE_MESSAGES) if row[name] is not None]
    return "".join(measured(row[name]) for name in always) + "".join(
        measured(name) + measured(row[name]) for name in given
    )


def digest(text: str) -> tuple[int, int]:
    found = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return int.from_bytes(found[:8]), int.from_bytes(found[8:])


@given(rows=st.lists(ROWS, max_size=6), collection=st.sampled_from(["c", "é"]))
def test_a_row_is_known_by_its_own_id_or_else_by_all_that_it_holds(rows: list[dict[str, Any]], collection: str) -> None:
    frame = pl.DataFrame(rows, schema=rows_schema())
    found = pl.DataFrame(with_identity(frame, collection))
    assert found.select(frame.columns).equals(frame)
    for row in found.iter_rows(named=True):
        if row["id"] is None:
            known, content = measured(collection) + measured("content") + content_of(row), 0
        else:
            known, content = "".join(map(measured, (collection, "id", row["id"]))), digest(content_of(row))[0]
        assert ((row["digest_hi"], row["digest_lo"]), row["content"]) == (digest(known), content)


def test_the_ids_of_a_part_of_some_rows_are_those_that_they_have_among_all() -> None:
    rows = [{"messages": [{"role": "user", "content": str(n), "trained": False}] * (n % 3)} for n in range(9)]
    frame = pl.DataFrame([*rows, {"messages": None}], schema=rows_schema())
    whole, part = (pl.DataFrame(with_identity(some, "c")) for some in (frame, frame[3:8]))
    assert part["digest_hi"].to_list() == whole["digest_hi"][3:8].to_list()


HALVES = st.integers(0, 2) | st.integers(2**64 - 2, 2**64 - 1) | st.integers(0, 2**64 - 1)
IDENTITIES = st.lists(st.lists(st.tuples(HALVES, HALVES, st.sampled_from([0, 0, 7, 8])), max_size=12), max_size=5)
"""Batches of rows: digest_hi, digest_lo, and content, 0 where a row has no id of its own."""


def one_by_one(rows: list[tuple[int, int, int]]) -> dict[int, tuple[int, int, int]]:
    """What becomes of the rows that an earlier row is the same as: the slow and obvious way."""
    seen: dict[tuple[int, int], list[int]] = {}
    found = {}
    for place, (hi, lo, content) in enumerate(rows):
        earlier = seen.setdefault((hi, lo), [])
        if earlier and content:
            found[place] = (hi, lo, 1 if earlier[0] == content else CONTRADICTED)
        elif earlier:
            number = np.array([hi ^ len(earlier), (lo + len(earlier)) % 2**64], dtype=np.uint64)
            found[place] = (*splitmix64(number).tolist(), FREE)
        earlier.append(content)
    return found


@pytest.mark.parametrize("at_once", [1, 4, 1000])
@given(batches=IDENTITIES)
def test_equal_rows_are_numbered_and_of_one_id_the_first_row_is_kept(
    at_once: int, batches: list[list[tuple[int, int, int]]]
) -> None:
    columns = [np.array(rows, dtype=np.uint64).reshape(-1, 3).T for rows in batches]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity, "_ROWS_AT_ONCE", at_once)
        found = repeats_of([(hi, lo, content) for hi, lo, content in columns])
    expected = one_by_one([row for rows in batches for row in rows])
    assert found.rows.tolist() == list(expected)
    assert list(zip(found.id_hi.tolist(), found.id_lo.tolist(), found.taken.tolist(), strict=True)) == [
        *expected.values()
    ]


def test_a_conversation_that_has_nothing_beside_content_is_known_as_it_was_before_it_could_have() -> None:
    talk = [
        {"role": "user", "content": "Hi", "trained": False},
        {"role": "assistant", "content": "Ho", "trained": True},
    ]
    frame = pl.DataFrame([{"task": "t", "messages": talk}], schema=rows_schema())
    told = measured("c") + measured("content") + measured("t") + "-" * 4
    told += measured("4:user2:Hi5:false9:assistant2:Ho4:true")
    assert pl.DataFrame(with_identity(frame, "c"))["digest_hi"].to_list() == [digest(told)[0]]
