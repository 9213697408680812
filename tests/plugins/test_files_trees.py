"""Trees of messages: which paths become conversations, and which rows are in no tree."""

import json

import pytest

from orca_plugins.sources.files.kind import Files
from tests.plugins.rows_in_files import FORMATS, read


def message(name: str, parent: str | None, role: str, rank: int | None = None) -> dict:
    return {"message_id": name, "parent_id": parent, "text": name.upper(), "role": role, "rank": rank}


FLAT = [
    message("q", None, "prompter"),
    message("b", "q", "assistant", 1),
    message("a", "q", "assistant", 0),
    message("more", "a", "prompter"),
    message("c", "more", "assistant"),
    message("d", "more", "assistant"),
    message("open", "a", "prompter"),
]
PATHS = [(2, ["Q", "B*"]), (5, ["Q", "A*", "MORE", "C*"]), (6, ["Q", "A", "MORE", "D*"])]


def spoken(rows: list[dict]) -> list[tuple[int, list[str]]]:
    """Place and texts of conversations, a star after what is trained."""
    return [(row["place"], [f"{one['content']}{'*' * one['trained']}" for one in row["messages"]]) for row in rows]


@pytest.mark.parametrize("name", FORMATS)
def test_each_path_to_a_last_answer_is_a_conversation_and_each_answer_trained_once(name: str):
    rows, rejected = read(FLAT, name, shape="oasst")
    assert spoken(rows) == PATHS
    assert rejected == []


def test_the_best_path_goes_by_rank():
    rows, _ = read(FLAT, shape="oasst", paths="best")
    assert spoken(rows) == [(5, ["Q", "A*", "MORE", "C*"])]


@pytest.mark.parametrize("spelt", [str, lambda rank: f"{rank}.0"])
def test_ranks_that_are_texts_rank(spelt):
    rows = [{**row, "rank": None if row["rank"] is None else spelt(row["rank"])} for row in FLAT]
    assert spoken(read(rows, shape="oasst", paths="best")[0]) == [(5, ["Q", "A*", "MORE", "C*"])]


@pytest.mark.parametrize("rank", ["best", True, [0], float("inf")])
def test_a_rank_that_is_no_number_is_rejected_by_name(rank):
    kept, rejected = read([*FLAT[:2], {**FLAT[2], "rank": rank}], shape="oasst")
    assert spoken(kept) == [(2, ["Q", "B*"])]
    assert rejected == [(3, "tree: rank is no number")]


def test_ranks_of_a_column_of_floats_may_be_missing():
    rows = [{**row, "rank": float("nan") if row["rank"] is None else float(row["rank"])} for row in FLAT]
    assert spoken(read(rows, "rows.parquet", shape="oasst", paths="best")[0]) == [(5, ["Q", "A*", "MORE", "C*"])]


def test_the_order_of_rows_in_a_file_decides_no_more_than_places():
    rows, _ = read(FLAT[::-1], shape="oasst")
    assert sorted(["".join(texts).replace("*", "") for _, texts in spoken(rows)]) == ["QAMOREC", "QAMORED", "QB"]


def test_a_question_that_nobody_answered_is_counted(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in FLAT))
    source = Files(path=path, shape="oasst")
    (reading,) = [one for piece in source.slices(slice_bytes=1) for one in source.read(slice=piece)]
    assert reading.passed_over == {"tree: a question without an answer": 1}


def test_orphans_circles_and_twins_are_rejected_by_name():
    rows = [
        *FLAT[:2],
        message("o", "gone", "assistant"),
        message("p", "o", "prompter"),
        message("x", "y", "prompter"),
        message("y", "x", "assistant"),
        message("b", "q", "assistant"),
        {"text": "t", "role": "prompter"},
    ]
    kept, rejected = read(rows, shape="oasst")
    assert spoken(kept) == [(2, ["Q", "B*"])]
    assert rejected == [
        (3, 'tree: its parent "gone" is not in the file'),
        (4, "tree: it hangs on a row whose parent is not in the file"),
        (5, "tree: its parents lead in a circle"),
        (6, "tree: its parents lead in a circle"),
        (7, "tree: an earlier row has the same message_id"),
        (8, "tree: the row has no message_id"),
    ]


def test_rows_of_trees_are_chosen_by_the_columns_of_the_last_answer():
    rows = [{**row, "lang": "en" if row["message_id"] in "bq" else "fr"} for row in FLAT]
    kept, _ = read(rows, shape="oasst", where={"lang": "en"})
    assert spoken(kept) == [(2, ["Q", "B*"])]


def nested(name: str, role: str, *replies: dict, rank: int | None = None) -> dict:
    return {"text": name, "role": role, "rank": rank, "replies": list(replies)}


@pytest.mark.parametrize("name", FORMATS[:2])
def test_nested_trees_are_the_same_paths(name: str):
    last = nested("MORE", "prompter", nested("C", "assistant"), nested("D", "assistant"))
    tree = nested("Q", "prompter", nested("B", "assistant", rank=1), nested("A", "assistant", last, rank=0))
    rows = [{"prompt": tree}, {"prompt": {"text": "x", "role": "prompter", "replies": 3}}]
    kept, rejected = read(rows, name, shape="oasst_tree")
    assert sorted(spoken(kept)) == [(1, ["Q", "A", "MORE", "D*"]), (1, ["Q", "A*", "MORE", "C*"]), (1, ["Q", "B*"])]
    assert rejected == [(2, "tree: replies is no list")]
    assert spoken(read(rows[:1], name, shape="oasst_tree", paths="best")[0]) == [(1, ["Q", "A*", "MORE", "C*"])]


def test_an_unknown_role_of_a_tree_is_named():
    judged = [message("z", "q", "assistant"), message("w", "z", "judge"), message("v", "w", "assistant")]
    for rows in (judged, judged[:2]):
        _, rejected = read([*FLAT[:1], *rows], shape="oasst")
        assert '"judge"' in rejected[0][1]
