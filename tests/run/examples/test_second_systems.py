"""System messages behind the first message, merged: texts and the name that all have, or the row is rejected."""

import polars as pl
import pytest

from orca_recipes.contract.frames import completed, rows_schema
from orca_recipes.run.examples.second_systems import merged_systems
from orca_recipes.run.examples.unfit_rows import unfitness


def system(content: str, name: str | None = None) -> dict:
    return {"role": "system", "content": content, "name": name}


ASK, ANSWER = {"role": "user", "content": "q", "name": "ann"}, {"role": "assistant", "content": "a"}


def merged(messages: list[dict], own: str | None = None) -> tuple[list[tuple], str | None]:
    """Role, content and name of each message after merging, and why the row cannot be an example."""
    rows = completed(pl.DataFrame({"place": [1], "system": [own], "messages": [messages]}), rows_schema())
    rows = merged_systems(rows)
    said = [(turn["role"], turn["content"], turn["name"]) for turn in rows["messages"][0].to_list()]
    return said, unfitness(rows, later_systems="merge")[0]


def test_a_name_that_all_merged_messages_have_is_the_merged_one_s():
    said, reason = merged([system("S", "guide"), ASK, system("T", "guide"), ANSWER])
    assert said == [("system", "S\n\nT", "guide"), ("user", "q", "ann"), ("assistant", "a", None)]
    assert reason is None


@pytest.mark.parametrize(
    ("first", "later", "own"), [("guide", "judge", None), ("guide", None, None), (None, "judge", None), ("a", "a", "R")]
)
def test_a_row_whose_system_messages_differ_in_their_name_is_rejected(first, later, own):
    messages = [system("S", first), ASK, system("T", later), ANSWER]
    said, reason = merged(messages, own)
    assert [name for role, _, name in said if role == "system"] == [first, later]
    assert reason == (
        "messages: its system messages differ in their name, and a merged one has one; "
        'second_system = "keep" leaves each where it stands'
    )


def test_rows_beside_one_that_cannot_be_merged_are():
    rows = [[system("S", "x"), ASK, system("T"), ANSWER], [ASK, system("T"), ANSWER], [system("S", "x"), ASK, ANSWER]]
    frame = completed(pl.DataFrame({"place": [1, 2, 3], "messages": rows}), rows_schema())
    found = merged_systems(frame)
    assert found["messages"].list.len().to_list() == [4, 3, 3]
    assert found["messages"][1][0]["content"] == "T"
    assert unfitness(found, later_systems="merge").is_null().to_list() == [False, True, True]
