"""What can be built and is hardly meant is said."""

from pathlib import Path

import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.plan.warnings import warnings
from orca_recipes.recipe.load import load_recipe

RECIPE = """\
name = "told"

[collections.sums]
kind = "files"
path = "sums.jsonl"

[collections.chats]
kind = "files"
path = "chats.jsonl"

[mixtures.all]
take.sums = { all = true }

[datasets.main]
mixture = "all"

[[rules]]
when = { collection = "sums", task = "hard" }
strategy = "step_by_step"

[[rules]]
strategy = "direct"

[tokenizer]
kind = "hf"
path = "tokenizer.json"

[template]
kind = "chatml"
"""


def warned(folder: Path, *changes: tuple[str, str]) -> tuple[str, ...]:
    text = RECIPE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "told.toml").write_text(text)
    return warnings(load_recipe(folder / "told.toml", catalogue=Catalogue()).recipe)


def test_an_instruction_beside_answers_that_nobody_gave_to_it_is_warned_of(tmp_path: Path):
    (told,) = warned(tmp_path)
    assert told == (
        'rules.0.strategy: dataset "main" trains on the instruction of strategy "step_by_step" beside answers of '
        'teacher "reference", who was never given it; erase it ([datasets.main] student = { erase = true }), choose a '
        'teacher that is asked, or take strategy = "direct"'
    )


@pytest.mark.parametrize(
    "change",
    [
        ('strategy = "step_by_step"', 'strategy = "few_shot"'),
        ('mixture = "all"', 'mixture = "all"\nstudent = { erase = true }'),
        ('mixture = "all"', 'mixture = "all"\nteacher = "bought"\n[teachers.bought]\nkind = "openai"\nmodel = "m"'),
        ('collection = "sums"', 'collection = "chats"'),
    ],
)
def test_what_is_erased_asked_or_out_of_reach_is_not(tmp_path: Path, change: tuple[str, str]):
    assert warned(tmp_path, change) == ()
