"""Numbers of things, as people say them."""

import re
from pathlib import Path

from orca_recipes.counted import counted
from tests.cli.test_main import QUICKSTART, here


def test_a_number_stands_before_its_noun_in_the_right_form():
    said = [counted(number, "row") for number in (0, 1, 2, 2048)]
    assert said == ["0 rows", "1 row", "2 rows", "2,048 rows"]
    assert [counted(number, "batch", "batches") for number in (1, 2)] == ["1 batch", "2 batches"]
    assert counted(3, "epoch") == "3 epochs"


def test_no_command_says_more_than_one_of_one_thing(tmp_path: Path):
    """Of a build with one example, nothing is in the plural."""
    store, out = ("--store", tmp_path / "store"), tmp_path / "out"
    said = ""
    for words in (
        ("build", QUICKSTART, "--limit", "1", *store, "--out", out),
        ("plan", QUICKSTART, "--limit", "1", *store, "--out", out),
        ("verify", out),
        ("verify", out, "--sample", "0.01"),
        ("show", out),
        ("show", out, "--raw"),
        ("explain", out, "--row", "0", "--at", "3", *store),
        ("train", out, "--dry-run", "--steps", "1"),
        ("clean", "--all", *store),
    ):
        done = here(*words)
        assert done.returncode == 0, done.stderr
        said += done.stdout + done.stderr
    assert "1 shard, 1 row of 2,048 tokens, 1 example, 34 tokens (4 trained)" in said
    assert re.findall(r"(?<![\d.,/])1 \w*s\b.*", said) == []
