"""The numbers of a manifest are proven too: counts against the shards, stages against themselves."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from orca_recipes.shards.checks.verify import verify


def sentences(directory: Path) -> list[str]:
    return [str(finding) for finding in verify(directory).findings]


def test_a_stage_that_loses_a_row_is_found(build, reseal):
    datasets = json.loads((build / "manifest.json").read_text(encoding="utf-8"))["datasets"]
    datasets["main"]["stages"][0]["in"] += 1
    reseal(build, datasets=datasets)
    (told,) = sentences(build)
    assert told == (
        "manifest.json: stage read of dataset main lost or made rows: "
        "6 came in or were created, 5 went out or were rejected"
    )


def test_a_rejection_that_is_not_listed_is_found(build, reseal):
    path = build / "side/rejected.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    reseal(build)
    (told,) = sentences(build)
    assert told == ('side/rejected.parquet: it lists 0 rows rejected as "empty", where the stages count 1')


def test_rows_that_a_draw_left_out_are_counted_and_not_listed(build, reseal):
    datasets = json.loads((build / "manifest.json").read_text(encoding="utf-8"))["datasets"]
    datasets["main"]["stages"][0]["in"] += 40
    datasets["main"]["stages"][0]["rejected"]["not drawn"] = 40
    reseal(build, datasets=datasets)
    assert verify(build).is_sound


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (("rows",), "it counts 4 rows in dataset main, whose shards hold 3"),
        (("shards", 0, "examples"), "it counts 4 examples in main/00000, which holds 3"),
        (("collections", "cot", "tokens"), "for collection cot in main, and the records"),
        (
            ("collections", "cot", "tasks", "aqua", "examples"),
            "for task aqua of collection cot in main, and the records",
        ),
    ],
)
def test_counts_that_differ_from_the_shards_are_found(build, reseal, path, told):
    datasets = json.loads((build / "manifest.json").read_text(encoding="utf-8"))["datasets"]
    place = datasets["main"]
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] += 1
    reseal(build, datasets=datasets)
    assert any(told in sentence for sentence in sentences(build))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"longest_example": 7}, "the longest example has 7 tokens, and the longest that could be read has"),
        ({"dtype": "int32"}, "dtype is int32, where a vocabulary of 259 takes uint16"),
        ({"align": 7}, "row_tokens = 96 is no multiple of align = 7"),
        ({"pad_id": 259}, "token 259 is outside the vocabulary of 259"),
        ({"files": []}, "it does not promise main/00000.bin, which belongs to the build"),
        ({"tables": []}, "lists main/rejected.parquet either by content or by bytes, not by both"),
    ],
)
def test_a_manifest_whose_numbers_do_not_fit_together_is_found(build, reseal, changes, told):
    reseal(build, **changes)
    assert any(told in sentence for sentence in sentences(build))


def test_a_table_whose_content_is_not_the_promised_one_is_found(build, reseal):
    tables = json.loads((build / "manifest.json").read_text(encoding="utf-8"))["tables"]
    tables[0]["content_digest"] = "blake2b:" + "0" * 64
    reseal(build, tables=tables)
    (told,) = sentences(build)
    assert "its content has digest" in told


def test_a_table_with_another_number_of_rows_than_promised_is_found(build, reseal):
    tables = json.loads((build / "manifest.json").read_text(encoding="utf-8"))["tables"]
    tables[0]["rows"] += 1
    reseal(build, tables=tables)
    assert any("manifest.json: it counts" in sentence for sentence in sentences(build))
