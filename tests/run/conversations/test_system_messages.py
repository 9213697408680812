"""System messages are drawn by key, by weight, or each in turn."""

from collections import Counter

import numpy as np
import polars as pl

from orca_recipes.contract.draws import splitmix64
from orca_recipes.contract.frames import completed, examples_schema
from orca_recipes.run.conversations.matching_rule import Message
from orca_recipes.run.conversations.system_messages import drawn_texts, headed

TWO = (Message("set/a", "A"), Message("set/b", "B"))


def examples(count: int, **columns: object) -> pl.DataFrame:
    ids = splitmix64(np.arange(2 * count, dtype=np.uint64))
    frame = pl.DataFrame({"id_hi": ids[:count], "id_lo": ids[count:], "question": [f"q{n}" for n in range(count)]})
    return completed(frame.with_columns(**columns), examples_schema())


def test_a_draw_depends_on_nothing_but_the_example():
    frame = examples(100)
    whole = headed(frame, TWO, seed=1, is_expanded=False)["system"].to_list()
    assert headed(frame.reverse(), TWO, seed=1, is_expanded=False)["system"].to_list() == whole[::-1]
    assert headed(frame[40:], TWO, seed=1, is_expanded=False)["system"].to_list() == whole[40:]
    assert headed(frame, TWO, seed=2, is_expanded=False)["system"].to_list() != whole


def test_weights_say_how_often_a_message_is_drawn():
    heavy = (Message("set/a", "A", weight=3), Message("set/b", "B"))
    counts = Counter(headed(examples(8000), heavy, seed=1, is_expanded=False)["message_id"])
    assert abs(counts["set/a"] - 6000) < 4 * (8000 * 0.75 * 0.25) ** 0.5


def test_what_a_row_brings_itself_stays():
    frame = examples(4, system=pl.Series(["own", None, "own", None]))
    made = headed(frame, TWO[:1], seed=1, is_expanded=False)
    assert made["system"].to_list() == ["own", "A", "own", "A"]
    assert made["message_id"].to_list() == ["", "set/a", "", "set/a"]


def test_each_gives_every_question_every_message_under_an_id_of_its_own():
    made = headed(examples(50), TWO, seed=1, is_expanded=True)
    assert made.select("question", "system").unique().height == made.height == 100
    assert made.select("id_hi", "id_lo").unique().height == 100
    again = headed(examples(50), (*TWO, Message("set/c", "C")), seed=1, is_expanded=True)
    copies = made.select("question", "system", "id_hi", "id_lo")
    assert again.join(copies, on=copies.columns, how="semi").height == 100


def test_each_leaves_alone_what_brings_its_own():
    made = headed(examples(2, system=pl.Series(["own", None])), TWO, seed=1, is_expanded=True)
    assert sorted(made["system"]) == ["A", "B", "own"]


def test_no_messages_head_nothing():
    assert headed(examples(2), (), seed=1, is_expanded=False)["system"].to_list() == [None, None]
    assert drawn_texts(examples(2), (), seed=1, purpose="p").to_list() == [None, None]
