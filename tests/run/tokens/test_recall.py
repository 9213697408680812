"""An edit tokenizes what it brings in and nothing that was tokenized before, and gives the bytes of a build anew."""

import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orca_recipes.preview.preview import preview
from orca_recipes.progress import Progress
from orca_recipes.run.build import made, prepare
from orca_recipes.run.built import Built
from orca_recipes.store.store import Store
from tests.run.renderers.test_student_renderer import HARMONY, talk
from tests.run.renderers.test_student_renderer import make as made_of
from tests.run.small import STUDENT, asked, promised, sums, write_rows
from tests.run.whole_rows import catalogue

FILTERS = 'filters = [{ kind = "length", max_chars = 2000 }]'
RECIPE = f"""
name = "edited"
seed = 7

[collections.sums]
kind = "files"
path = "sums.jsonl"
columns = {{ question = "q", reference = "a", task = "t" }}

[mixtures.some]
take.sums = {{ rows = 150 }}

[system_messages.moods.messages]
kind = "Be kind."
brief = "Be brief."
slow = "Take your time."

[[rules]]
when = {{ task = "sum-1" }}
strategy = "direct"
system_messages = ["moods/kind"]

[[rules]]
strategy = "direct"

[datasets.main]
mixture = "some"
{FILTERS}
{STUDENT}
"""
MORE = '[collections.more]\nkind = "files"\npath = "more.jsonl"\ncolumns = { question = "q", reference = "a" }\n'
EDITS = {
    "filter added": (" }]", " }, { kind = 'length', min_answer_chars = 10 }]"),
    "filter changed": ("max_chars = 2000", "min_answer_chars = 11"),
    "filter removed": (FILTERS, ""),
    "seed": ("seed = 7", "seed = 8"),
    "share": ("rows = 150", "rows = 120"),
    "larger share": ("rows = 150", "rows = 180"),
    "repeats": ("rows = 150", "rows = 260, max_repeat = 2"),
    "row_tokens": ("row_tokens = 128", "row_tokens = 256"),
    "rule": ('["moods/kind"]', '["moods/brief", "moods/slow"]'),
    "reserve": ("rows = 150", "rows = 100, reserve = 0.2"),
    "collection": ("[mixtures.some]", f"{MORE}\n[mixtures.some]\ntake.more = {{ all = true }}"),
}
"""What is written in the place of what."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "project")


def make_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    write_rows(folder / "sums.jsonl", sums(200))
    write_rows(folder / "more.jsonl", [{"q": f"What is {n} - 1?", "a": f"It is surely {n - 1}."} for n in range(2, 12)])
    return folder


def edited(*names: str) -> str:
    text = RECIPE
    for name in names:
        before, after = EDITS[name]
        text = text.replace(before, after, 1)
    return text


def told(folder: Path, text: str, name: str, store: str = "store", **more) -> Built:
    recipe = folder / f"{name}.toml"
    recipe.write_text(text)
    return made(asked(recipe, store=folder / store, out=folder / name, **more), Progress())


def tokenized(built: Built, collection: str = "sums") -> tuple[int, int]:
    """Examples of a collection that a build holds, and those of them that it took from the store."""
    stage = built.as_json()["stages"][f"tokenize main/{collection}"]
    return stage["out"], stage["reused"]


def ids(*builds: Built) -> set[bytes]:
    paths = [path for built in builds for path in (built.directory / "main").glob("*.records.parquet")]
    return {one for path in paths for one in pl.read_parquet(path, columns=["id"])["id"]}


def same(one: Built, other: Built) -> None:
    """Two builds are the same, with all that their manifests count."""
    assert promised(one.directory) == promised(other.directory)
    assert one.manifest.data_digest == other.manifest.data_digest
    assert one.manifest.digest == other.manifest.digest


@pytest.mark.parametrize("edit", ["filter added", "filter changed", "filter removed", "share", "reserve", "row_tokens"])
def test_what_takes_rows_away_or_judges_them_anew_tokenizes_nothing(folder: Path, edit: str) -> None:
    first = told(folder, RECIPE, "first")
    later = told(folder, edited(edit), "later")
    out, reused = tokenized(later)
    assert out == reused
    assert ids(later) <= ids(first)
    same(later, told(folder, edited(edit), "anew", store="other"))


def test_a_filter_that_is_removed_again_tokenizes_only_what_it_had_refused(folder: Path) -> None:
    strict = told(folder, edited("filter changed"), "strict")
    out, reused = tokenized(told(folder, RECIPE, "loose"))
    assert (out, reused) == (150, tokenized(strict)[0])
    assert 0 < reused < out


@pytest.mark.parametrize("edit", ["seed", "larger share"])
def test_another_draw_tokenizes_only_what_no_build_drew_before(folder: Path, edit: str) -> None:
    first = told(folder, RECIPE, "first")
    later = told(folder, edited(edit), "later")
    out, reused = tokenized(later)
    assert out - reused == len(ids(later) - ids(first)) > 0
    third = told(folder, edited("share", "seed"), "third")
    assert tokenized(third)[0] - tokenized(third)[1] == len(ids(third) - ids(first, later))
    same(later, told(folder, edited(edit), "anew", store="other"))


def test_a_rule_tokenizes_only_what_it_matches(folder: Path) -> None:
    told(folder, RECIPE, "first")
    later = told(folder, edited("rule"), "later")
    out, reused = tokenized(later)
    assert out - reused == later.manifest.datasets["main"].collections["sums"].tasks["sum-1"].examples
    same(later, told(folder, edited("rule"), "anew", store="other"))


def test_a_collection_that_is_added_costs_itself(folder: Path) -> None:
    told(folder, RECIPE, "first")
    later = told(folder, edited("collection"), "later")
    assert tokenized(later) == (150, 150)
    assert tokenized(later, "more") == (10, 0)


def test_another_tokenizer_or_template_takes_nothing_over(folder: Path) -> None:
    told(folder, RECIPE, "first")
    out, reused = tokenized(told(folder, RECIPE.replace('kind = "chatml"', 'kind = "plain"'), "later"))
    assert (out, reused) == (150, 0)


DAYS = st.lists(st.sets(st.sampled_from(sorted(EDITS)), max_size=3), min_size=2, max_size=4)


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(days=DAYS)
def test_whatever_was_edited_in_which_order_a_build_is_what_it_is_anew(
    tmp_path_factory: pytest.TempPathFactory, days: list[set[str]]
) -> None:
    build_each_day_and_anew(tmp_path_factory, days)


def test_after_three_days_of_edits_a_build_is_what_it_is_anew(tmp_path_factory: pytest.TempPathFactory) -> None:
    build_each_day_and_anew(tmp_path_factory, [{"filter added"}, {"larger share"}, {"filter added", "row_tokens"}])


def build_each_day_and_anew(tmp_path_factory: pytest.TempPathFactory, days: list[set[str]]) -> None:
    """Hold each day's build against one whose store saw nothing else."""
    folder = make_folder(tmp_path_factory.mktemp("days") / "project")
    for number, names in enumerate(days):
        text = edited(*sorted(names))
        same(told(folder, text, f"day-{number}"), told(folder, text, f"anew-{number}", store=f"store-{number}"))


def test_rows_that_the_template_renders_turn_by_turn_are_taken_over_too(tmp_path: Path) -> None:
    rows = [talk("user: One?", f"assistant: {n}", "user: Two?", f"assistant: {n + 1}") for n in range(8, 12)]
    recipe = tmp_path / "p" / "whole.toml"
    before = made_of(tmp_path / "p", HARMONY, [*rows, talk("user: Sure?", "assistant: yes")])
    recipe.write_text(recipe.read_text() + '[datasets.main]\nfilters = [{ kind = "length", min_answer_chars = 3 }]\n')
    later, anew = (
        made(asked(recipe, store=tmp_path / "p" / store, out=tmp_path / name, catalogue=catalogue()), Progress())
        for store, name in (("store", "later"), ("other", "anew"))
    )
    stages = {stage.name: stage for stage in before.manifest.datasets["main"].stages}
    assert stages["tokenize main/chats"].created == {"one example a turn": 4}
    out, reused = tokenized(later, "chats")
    assert 0 < out == reused < stages["tokenize main/chats"].out
    same(later, anew)


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("pattern", ["*.bin", "*.records.arrow", "*.ledger.arrow"])
def test_what_is_damaged_in_the_store_is_not_taken_over(folder: Path, pattern: str) -> None:
    told(folder, RECIPE, "first")
    for path in (folder / "store" / "stages").glob(f"tokenize-sums-*/{pattern}"):
        damage(path)
    later = told(folder, edited("filter added"), "later")
    out, reused = tokenized(later)
    assert reused < out
    same(later, told(folder, edited("filter added"), "anew", store="other"))


def test_a_unit_that_is_damaged_after_it_was_taken_over_is_made_again(folder: Path) -> None:
    told(folder, RECIPE, "first")
    later = told(folder, edited("filter added"), "later")
    for path in (folder / "store" / "stages").glob("tokenize-sums-*/taken-*.bin"):
        damage(path)
    again = told(folder, edited("filter added", "row_tokens"), "again")
    same(again, told(folder, edited("filter added", "row_tokens"), "anew", store="other"))
    assert again.manifest.data_digest != later.manifest.data_digest


def test_clean_leaves_a_living_build_the_tokens_that_it_took_over(folder: Path) -> None:
    told(folder, RECIPE, "first")
    told(folder, edited("filter added"), "later")
    shutil.rmtree(folder / "first")
    removed, freed = Store(folder / "store").clean()
    assert removed
    stages = folder / "store" / "stages"
    assert len(list(stages.glob("tokenize-sums-*"))) == 1
    assert freed < sum(path.stat().st_size for path in stages.glob("tokenize-sums-*/*.bin")) + 100_000
    out, reused = tokenized(told(folder, edited("filter changed"), "third"))
    assert 0 < reused <= out


def test_tokens_are_linked_and_take_no_room_twice(folder: Path) -> None:
    told(folder, RECIPE, "first")
    told(folder, edited("filter added"), "later")
    taken = list((folder / "store" / "stages").glob("tokenize-sums-*/taken-*.bin"))
    assert taken
    assert all(path.stat().st_nlink == 2 for path in taken)


def test_a_file_system_without_links_has_copies(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("orca_recipes.store.stage_folder.os.link", refuse)
    told(folder, RECIPE, "first")
    later = told(folder, edited("filter added"), "later")
    assert len(set(tokenized(later))) == 1
    same(later, told(folder, edited("filter added"), "anew", store="other"))


def test_two_workers_take_over_what_one_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told(folder, RECIPE, "first")
    one = told(folder, edited("filter added"), "one")
    shutil.rmtree(folder / "store")
    monkeypatch.setattr("orca_recipes.run.work.bench.TASKS_WORTH_WORKERS", 1)
    told(folder, RECIPE, "first", workers=2)
    same(one, told(folder, edited("filter added"), "two", workers=2))


def test_whoever_edits_finds_rows_that_many_edits_before_tokenized(folder: Path) -> None:
    change: Callable[[int], str] = lambda rows: RECIPE.replace("rows = 150", f"rows = {rows}")  # noqa: E731
    built = [told(folder, change(rows), f"day-{rows}") for rows in (50, 90, 70, 120)]
    assert [tokenized(one) for one in built] == [(50, 0), (90, 50), (70, 70), (120, 90)]


def test_a_plan_tells_what_an_edit_does_again_and_why(folder: Path) -> None:
    told(folder, RECIPE, "first")
    recipe = folder / "first.toml"
    recipe.write_text(edited("filter changed"))
    wanted = asked(recipe, store=folder / "store", out=folder / "first")
    stages = {stage.name: stage for stage in preview(wanted, prepare(wanted)).stages}
    assert stages["converse main/sums"].again == "judges all again; writes only conversations that are others"
    assert stages["converse main/sums"].why.startswith("changed: filters")
    assert stages["tokenize main/sums"].again == "tokenizes only conversations that 1 earlier stage did not"
    assert stages["tokenize main/sums"].why == "after converse main/sums"
    assert stages["read sums"].again == ""
