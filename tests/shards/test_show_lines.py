"""Programs read a build by its lines: every example, token for token, and every row that was lost."""

import numpy as np
import pytest

from orca_recipes.errors import UserError
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.show.show_lines import example_lines, rejected_lines, rejected_text

ALL = ("main/00000", "main/00001", "side/00000")


def test_each_example_is_a_line_in_the_order_of_rows(build, build_rows):
    lines = list(example_lines(build))
    wanted = [example for prefix in ALL for row in build_rows[prefix] for example in row]
    assert [line["id"] for line in lines] == [example.id for example in wanted]
    assert [(line["dataset"], line["row"], line["at"]) for line in lines] == [
        ("main", 0, 0),
        ("main", 0, 15),
        ("main", 1, 0),
        ("main", 2, 0),
        ("side", 3, 0),
        ("side", 4, 0),
    ]
    assert [(line["collection"], line["task"], line["file"], line["place"]) for line in lines] == [
        (example.collection, example.task, example.file, example.line) for example in wanted
    ]


def test_a_line_tells_each_segment_with_its_role_loss_text_and_tokens(build):
    first = next(example_lines(build))
    assert [(part["role"], part["trained"], part["text"]) for part in first["segments"]] == [
        ("system", False, "<s>Be kind."),
        ("user", False, "2+2?"),
        ("assistant", True, "4</s>"),
    ]
    assert [len(part["tokens"]) for part in first["segments"]] == [9, 4, 2]
    assert (first["strategy"], first["teacher"], first["turn"]) == ("direct", "reference", -1)


def test_the_tokens_of_all_lines_are_those_of_the_shards(build):
    told = [token for line in example_lines(build) for part in line["segments"] for token in part["tokens"]]
    assert told == np.concatenate([Shard.open(build / prefix).tokens for prefix in ALL]).tolist()


def test_the_texts_of_an_example_joined_are_the_text_of_its_tokens(build, tokenizer):
    for line in example_lines(build):
        ids = [token for part in line["segments"] for token in part["tokens"]]
        text = "".join(part["text"] for part in line["segments"])
        assert text == tokenizer.decode(ids, skip_special_tokens=False)


def test_lines_are_of_what_is_asked_for(build, build_rows):
    assert [line["row"] for line in example_lines(build, dataset="side")] == [3, 4]
    assert len(list(example_lines(build, row=0))) == 2
    assert len(list(example_lines(build, task="cot/aqua"))) == 2
    wanted = build_rows["main/00001"][0][0].id
    assert [line["id"] for line in example_lines(build, example=wanted[:9].upper())] == [wanted]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"dataset": "mian"}, 'has no dataset "mian"; did you mean "main"?'),
        ({"dataset": "zz"}, 'has no dataset "zz"; it has main, side'),
        ({"row": 5}, "has 5 rows, counted from 0, and no row 5"),
        ({"row": 0, "dataset": "side"}, "is not of dataset side"),
        ({"task": "aqau"}, 'did you mean "aqua"'),
        ({"example": "zz"}, "holds no example zz"),
    ],
)
def test_what_is_not_there_is_a_mistake(build, asked, told):
    with pytest.raises(UserError, match=told.replace("?", r"\?")):
        list(example_lines(build, **asked))


def test_every_lost_row_is_a_line_with_its_stage_and_reason(build):
    lost = {"id": None, "collection": "cot", "file": "train.tsv", "place": 9, "stage": "read", "reason": "empty"}
    assert list(rejected_lines(build)) == [{**lost, "dataset": dataset, "twin": None} for dataset in ("main", "side")]
    assert [line["dataset"] for line in rejected_lines(build, dataset="side")] == ["side"]


def test_lost_rows_are_told_to_people_by_place_stage_and_reason(build):
    assert list(rejected_text(build, dataset="main")) == [
        "dataset main: 1 row rejected",
        "  cot/train.tsv:9: read: empty",
    ]
