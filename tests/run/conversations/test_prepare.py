"""Answers that exist already are joined to a mixture's questions, and what is missing is counted."""

import json
from pathlib import Path

import polars as pl
import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.errors import RecipeError, SourceError
from orca_recipes.progress import Progress
from orca_recipes.prove.prove import prove
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.build import Asked, build
from orca_recipes.shards.manifest import Manifest
from orca_recipes.store.store import Store
from tests.run.small import QUICKSTART_TOKENIZER

RECIPE = """
name = "replayed"

[collections.questions]
kind = "files"
path = "questions.jsonl"

[collections.answers]
kind = "files"
path = "answers.jsonl"
columns = {{ system = "system_prompt", question = "question", answer = "response" }}

[mixtures.all]
take.questions = {{ all = true }}

[system_messages.set.messages]
kind = "Be kind."

[[rules]]
strategy = "direct"
system_messages = ["set/kind"]

[teachers.gpt4]
kind = "replay"
collection = "answers"
model = "gpt-4"

[datasets.one]
mixture = "all"
teacher = "gpt4"

[datasets.two]
mixture = "all"
teacher = "gpt4"

[tokenizer]
kind = "hf"
path = "{tokenizer}"

[template]
kind = "chatml"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Twenty questions, of which a table answers the first fifteen, one of them twice alike."""
    questions = [{"question": f"What is {n}+{n}?"} for n in range(20)]
    answers = [
        {"system_prompt": "Be kind.", "question": row["question"], "response": f"{2 * n}, dear."}
        for n, row in enumerate(questions[:15])
    ]
    for name, rows in (("questions", questions), ("answers", [*answers, answers[0]])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "replayed.toml"
    path.write_text(RECIPE.format(tokenizer=QUICKSTART_TOKENIZER.as_posix()))
    return path


def made(recipe: Path, *overrides: str) -> Manifest:
    loaded = load_recipe(recipe, catalogue=Catalogue(), overrides=overrides)
    asked = Asked(loaded=loaded, store=Store(recipe.parent / "store"), directory=recipe.parent / "out", workers=1)
    return build(asked, Progress())[0]


def test_recorded_answers_are_joined_and_unmatched_questions_counted(recipe):
    manifest = made(recipe)
    one = manifest.datasets["one"]
    assert one.examples == 15
    (converse,) = [stage for stage in one.stages if stage.name == "converse one/questions"]
    assert converse.rejected == {"no recorded answer to this system message and question": 5}
    records = pl.read_parquet(recipe.parent / "out/one/00000.records.parquet")
    assert records["teacher"].unique().to_list() == ["gpt4"]
    assert prove(recipe.parent / "out", kinds=Catalogue(), progress=Progress()).is_sound


def test_a_table_is_laid_out_once_and_conversations_of_equal_datasets_are_made_once(recipe):
    made(recipe)
    folders = [path for path in (recipe.parent / "store/stages").iterdir() if path.is_dir()]
    stages = [path.name.rpartition("-")[0] for path in folders]
    for stage in ("prepare-gpt4", "converse-questions", "tokenize-questions", "pack"):
        assert stages.count(stage) == 1
    assert (recipe.parent / "out/one/00000.bin").read_bytes() == (recipe.parent / "out/two/00000.bin").read_bytes()


def test_two_answers_to_one_question_are_refused_by_place(recipe):
    with (recipe.parent / "answers.jsonl").open("a") as file:
        file.write(json.dumps({"system_prompt": "Be kind.", "question": "What is 1+1?", "response": "3"}) + "\n")
    with pytest.raises(SourceError, match=r"answers\.jsonl:2 and answers\.jsonl:17 answer one question in two ways"):
        made(recipe)


def test_a_collection_of_answers_that_is_not_there_is_named(recipe):
    with pytest.raises(RecipeError, match='there is no collection "answer"; did you mean "answers"'):
        made(recipe, "teachers.gpt4.collection=answer")
