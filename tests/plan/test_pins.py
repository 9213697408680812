"""What a lock pins, and how a difference is told."""

from dataclasses import replace

import pytest

from orca_recipes.plan.pins import FilePin, Pins, SourcePin, differences, pins_from_json

PINS = Pins(
    collections={"cot": SourcePin((FilePin("a.jsonl", 10, "blake2b:aa"),), {"reasoning-gym": "0.1.25"})},
    tokenizer=SourcePin((FilePin("tokenizer.json", 5, "blake2b:bb"),)),
    tokenizer_digest="blake2b:cc",
    template="blake2b:dd",
    kinds={"sources:files": 1},
)


def test_pins_survive_being_written_and_read():
    assert pins_from_json(PINS.as_json()) == PINS
    assert differences(PINS, PINS) == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"collections": {}}, "collections.cot: the lock pins it, the recipe has it no longer"),
        (
            {"collections": {"cot": SourcePin((FilePin("a.jsonl", 11, "blake2b:ab"),), {"reasoning-gym": "0.1.25"})}},
            "collections.cot: the file a.jsonl has other content (10 bytes are locked, 11 are there)",
        ),
        (
            {"collections": {"cot": SourcePin((FilePin("b.jsonl", 10, "blake2b:aa"),), {"reasoning-gym": "0.1.25"})}},
            "collections.cot: the file a.jsonl is locked and gone",
        ),
        (
            {"collections": {"cot": SourcePin((FilePin("a.jsonl", 10, "blake2b:aa"),), {"reasoning-gym": "0.2"})}},
            "collections.cot: reasoning-gym 0.1.25 is locked, 0.2 is installed",
        ),
        ({"tokenizer_digest": "blake2b:ce"}, "tokenizer: its options give other ids than those that were locked"),
        ({"template": "blake2b:de"}, "template: it prints other texts around messages than those that were locked"),
        ({"kinds": {"sources:files": 2}}, "kinds.sources:files: revision 1 is locked, 2 is installed or chosen"),
    ],
)
def test_each_difference_is_a_sentence(changed: dict, told: str):
    assert told in differences(PINS, replace(PINS, **changed))
    assert replace(PINS, **changed).digest() != PINS.digest()
