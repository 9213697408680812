"""What `explain` says of a token, and how its answers look."""

import json
import re
from pathlib import Path

import polars as pl
import pytest

from orca_recipes.errors import UserError
from orca_recipes.shards.reader import Shard


def test_a_token_is_told_with_its_role_its_text_and_its_loss(built):
    prefix = built.directory / "main" / "00000"
    row = Shard.open(prefix).row(0)
    views = [built.token(0, at).stories[0].fates[0].token for at in range(len(row.tokens))]
    assert [view.token for view in views] == row.tokens.tolist()
    assert sum(view.is_label for view in views) == int(row.segments.example_trained_tokens.sum())
    assert [view.segment for view in views] == sorted(view.segment for view in views)
    assert {view.role for view in views} >= {"user", "assistant"}
    assert all(view.is_in_trained_segment == (view.role == "assistant") for view in views if view.is_label)
    assert "".join(view.text for view in views).count("<|im_start|>") >= 2


def test_a_token_belongs_to_the_example_that_stands_there(built):
    records = built.records().filter(shard="00000", row=0)
    for record in records.iter_rows(named=True):
        for at in (record["place"], record["place"] + record["tokens"] - 1):
            (story,) = built.token(0, at).stories
            assert story.origin.id == record["id"]
            assert [fate.dataset for fate in story.fates] == ["main"]
            assert story.fates[0].token.at_in_example == at - record["place"]


def test_padding_and_places_past_a_row_hold_no_token(built):
    shard = Shard.open(built.directory / "main" / "00000")
    row = next(number for number in range(shard.rows) if len(shard.row(number).tokens) < 128)
    with pytest.raises(UserError, match="place 127 is padding"):
        built.token(row, 127)
    with pytest.raises(UserError, match="place 128 is past its end"):
        built.token(row, 128)
    with pytest.raises(UserError, match="and no row 99999"):
        built.token(99999, 0)


def test_flags_are_told_in_words(recipe: Path, explainable):
    recipe.write_text(recipe.read_text().replace("row_tokens = 128", 'row_tokens = 48\noverlong = "truncate"'))
    built = explainable(recipe)
    record = built.records().filter(pl.col("flags") == 2).row(0, named=True)
    assert "truncated (packing cut the end of the last answer)" in str(built.example(record["id"]))


def test_the_page_is_plain_and_aligned(built):
    page = str(built.place("chats.jsonl:3"))
    assert page.splitlines()[0].startswith("example ")
    block = page.split("\n\n")[3].splitlines()
    assert len({re.match(r"  \S+( \S+)*  +", line).end() for line in block}) == 1


def test_no_text_of_a_data_set_steers_the_terminal(recipe: Path, explainable):
    hostile = "sum\x1b[31m\u202e\nin dataset main: kept\x9b"
    (recipe.parent / "sums.jsonl").write_text(json.dumps({"q": f"{hostile}?", "a": hostile, "t": hostile}) + "\n")
    recipe.write_text(recipe.read_text().replace("rows = 150", "all = true"))
    built = explainable(recipe)
    record = built.records().filter(collection="sums").row(0, named=True)
    (story,) = built.example(record["id"]).stories
    standing = story.fates[0].standing
    pages = [str(built.example(record["id"]))]
    pages += [str(built.token(standing.row, standing.place + at)) for at in range(0, standing.tokens, 3)]
    for page in pages:
        assert all(line.isprintable() for line in page.split("\n"))
        assert page.count("\nin dataset main: kept") == 1


def test_json_holds_the_same_facts(built):
    told = json.loads(json.dumps(built.place("chats.jsonl:61").as_json()))
    (story,) = told["stories"]
    assert story["origin"]["file"] == "chats.jsonl"
    assert story["fates"][0]["outcome"] == "rejected"
