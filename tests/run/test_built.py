"""What a build tells programs: counts by stage, what was reused, what was passed over, what the process used."""

from pathlib import Path

import pytest

from orca_recipes.progress import Progress
from orca_recipes.run.build import made
from orca_recipes.run.built import Built
from tests.run.small import STUDENT, asked, write_rows

KEYS = {
    *("digest", "fresh", "directory", "datasets", "stages", "passed_over"),
    *("collections", "unknown", "normalized", "prompts_checked", "answers", "engine", "main"),
}


def told(recipe: Path, out: str = "out", **more) -> Built:
    return made(asked(recipe, out=recipe.parent / out, **more), Progress())


def test_a_build_tells_what_went_into_each_stage_and_what_became_of_it(recipe: Path):
    built = told(recipe)
    found = built.as_json()
    assert found.keys() == KEYS
    assert (found["fresh"], found["directory"]) == (True, str(recipe.parent / "out"))
    assert found["datasets"].keys() == {"main"}
    assert found["datasets"]["main"]["examples"] == built.manifest.datasets["main"].examples
    assert found["datasets"]["main"]["fill"] == pytest.approx(float(built.manifest.datasets["main"].fill))
    names = [*("read sums", "mix both/sums", "converse main/sums", "tokenize main/sums", "pack main")]
    assert set(names) < found["stages"].keys()
    for stage in found["stages"].values():
        assert stage["in"] + sum(stage["created"].values()) == stage["out"] + sum(stage["rejected"].values())
        assert stage["reused"] == 0
    assert found["answers"] == {"stored": 0, "asked": 0, "maybe_billed_twice": 0}
    assert found["main"]["cpu_seconds"] > 0
    assert found["main"]["peak_bytes"] > 10_000_000


def test_a_second_build_takes_every_row_from_the_store(recipe: Path):
    first, second = told(recipe).as_json(), told(recipe).as_json()
    assert (second["fresh"], second["digest"]) == (False, first["digest"])
    assert all(stage["reused"] == stage["out"] for stage in second["stages"].values())


def test_an_edit_reuses_the_stages_that_it_leaves_alone(recipe: Path):
    told(recipe)
    recipe.write_text(recipe.read_text().replace("max_chars = 2000", "max_chars = 1999"))
    stages = told(recipe).as_json()["stages"]
    reused = {name for name, stage in stages.items() if stage["reused"] == stage["out"]}
    verbs = ("converse", "tokenize", "mix")
    kept = {f"{verb} {subject}" for verb in verbs for subject in ("main/sums", "main/chats")}
    assert reused == {"read sums", "read chats"} | {name.replace("mix main", "mix both") for name in kept}


def test_parts_of_a_stage_that_were_finished_before_it_broke_off_are_reused(recipe: Path):
    built = told(recipe)
    (folder,) = (recipe.parent / "store" / "stages").glob("tokenize-sums-*")
    (folder / "receipt.json").unlink()
    again = told(recipe, "other")
    assert again.fresh
    stage = again.as_json()["stages"]["tokenize main/sums"]
    assert stage["reused"] == stage["out"] == built.as_json()["stages"]["tokenize main/sums"]["out"]


TWINS = """\
name = "twins"

[collections.first]
kind = "files"
path = "first.jsonl"

[collections.second]
kind = "files"
path = "second.jsonl"

[mixtures.both]
take.first = { all = true }
take.second = { rows = 2 }

[datasets.one]
mixture = "both"

[datasets.two]
mixture = "both"
"""


def test_what_a_mixture_passes_over_is_told_once_by_collection_and_what_a_draw_left_is_not(tmp_path: Path):
    folder = tmp_path / "project"
    folder.mkdir()
    write_rows(folder / "first.jsonl", [{"question": f"q{n}", "reference": "a"} for n in range(5)])
    write_rows(folder / "second.jsonl", [{"question": f"q{n}", "reference": "a"} for n in range(3, 12)])
    (folder / "twins.toml").write_text(TWINS + STUDENT)
    found = told(folder / "twins.toml").as_json()
    assert {name: sum(reasons.values()) for name, reasons in found["passed_over"].items()} == {"second": 2}
    assert found["stages"]["mix both/second"]["out"] == 2
