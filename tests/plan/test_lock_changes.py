"""What `lock --explain` tells: each part that would be another, why, and whether it can change bytes."""

from dataclasses import replace

from orca_recipes.plan.lock_changes import lock_changes
from orca_recipes.plan.pins import FilePin, Pins, SourcePin
from orca_recipes.plan.plugins import PluginPin

ROWS = SourcePin((FilePin("a.jsonl", 10, "blake2b:a"), FilePin("b.jsonl", 10, "blake2b:b")))
PINS = Pins(
    collections={"rows": ROWS},
    tokenizer=SourcePin((FilePin("tokenizer.json", 5, "blake2b:t"),)),
    tokenizer_digest="blake2b:td",
    template="blake2b:m",
    kinds={"filters:length": 1},
    plugins={"stranger": PluginPin("1.0", "blake2b:p", {"filters:x": "x:X"})},
)
OUTCOMES = {"plan": {"read rows": "1", "converse main": "2"}, "tokenizer": "equal", "template": "equal"}


def told(after: Pins, foreseen: dict[str, object]) -> dict[str, tuple[object, object, str, bool]]:
    found = lock_changes(PINS, after, OUTCOMES, foreseen)
    return {change.part: (change.before, change.after, change.why, change.changes_bytes) for change in found}


def test_nothing_changes_where_all_is_equal():
    assert told(PINS, OUTCOMES) == {}


def test_a_raised_revision_is_told_with_the_stages_that_follow():
    plan = {"read rows": "1", "converse main": "3"}
    found = told(replace(PINS, kinds={"filters:length": 2}), {**OUTCOMES, "plan": plan})
    assert found == {
        "kinds.filters:length": (1, 2, "revision 2 of the kind gives other output than revision 1", True),
        "plan.converse main": ("2", "3", "it follows kinds.filters:length", True),
    }


def test_a_stage_that_changes_alone_is_the_recipe_or_the_program():
    found = told(PINS, {**OUTCOMES, "plan": {"read rows": "9", "converse main": "2"}})
    assert found["plan.read rows"][2].startswith("the pins are equal")


def test_one_file_of_many_is_one_change_and_says_what_became_of_it():
    files = (ROWS.files[0], FilePin("b.jsonl", 12, "blake2b:other"))
    found = told(replace(PINS, collections={"rows": SourcePin(files)}), OUTCOMES)
    assert set(found) == {"collections.rows.files.b.jsonl.bytes", "collections.rows.files.b.jsonl.digest"}
    assert "other content (10 bytes are locked, 12 are there)" in found["collections.rows.files.b.jsonl.digest"][2]


def test_an_upgraded_plugin_is_told_by_its_versions():
    found = told(replace(PINS, plugins={"stranger": replace(PINS.plugins["stranger"], version="2.0")}), OUTCOMES)
    before, after, why, changes_bytes = found["plugins.stranger.version"]
    assert (before, after, changes_bytes) == ("1.0", "2.0", True)
    assert why == "version 1.0 is locked, 2.0 is installed"


def test_a_verdict_changes_no_byte():
    found = told(PINS, {**OUTCOMES, "tokenizer": "the reference encodes all"})
    assert found["tokenizer verdict"][3] is False
