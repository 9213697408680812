"""The whole path, from a recipe to a build directory, and what makes two builds the same."""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from orca_recipes.errors import BuildError, LockError, OverlongExample, Shortfall, SourceError
from orca_recipes.preview.preview import preview
from orca_recipes.progress import Progress
from orca_recipes.run import publish
from orca_recipes.run.build import build, lock_recipe, prepare
from orca_recipes.run.work.bench import Bench
from orca_recipes.shards.checks.verify import verify
from orca_recipes.shards.manifest import Manifest
from tests.run.small import Heard, asked, promised


def made(recipe: Path, *overrides: str, **more) -> Manifest:
    return build(asked(recipe, *overrides, **more), Progress())[0]


def test_a_recipe_becomes_a_sound_build(recipe: Path):
    manifest = made(recipe)
    main = manifest.datasets["main"]
    assert len(main.shards) >= 2
    assert verify(recipe.parent / "out").findings == ()
    assert set(main.collections) == {"chats", "sums"}
    assert main.collections["sums"].examples == 150
    assert set(main.collections["sums"].tasks) == {"sum-0", "sum-1", "sum-2"}
    assert main.trained_tokens < main.tokens


def test_every_row_is_accounted_for(recipe: Path):
    main = made(recipe).datasets["main"]
    for stage in main.stages:
        assert stage.taken + sum(stage.created.values()) == stage.out + sum(stage.rejected.values()), stage.name
    rejected = pl.read_parquet(recipe.parent / "out" / "main" / "rejected.parquet")
    told = rejected.select("collection", "file", "line", "stage", "reason").rows()
    assert told == [
        ("chats", "chats.jsonl", 61, "pack", "longer than a row"),
        ("chats", "chats.jsonl", 62, "filter length", "too long: more than 2000 characters"),
    ]
    undrawn = next(stage for stage in main.stages if stage.name == "mix both/sums")
    assert undrawn.rejected == {"not drawn": 52}


def test_workers_part_sizes_and_places_never_change_a_byte(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    one = made(recipe)
    elsewhere = tmp_path / "another place"
    shutil.copytree(recipe.parent, elsewhere, ignore=shutil.ignore_patterns("store", "out", "*.lock"))
    monkeypatch.setattr("orca_recipes.run.examples.read.SLICE_BYTES", 700)
    monkeypatch.setattr("orca_recipes.run.examples.read_part.BATCH_BYTES", 500)
    small_parts = made(elsewhere / recipe.name)
    assert promised(elsewhere / "out") == promised(recipe.parent / "out")
    assert small_parts.digest == one.digest
    monkeypatch.setattr("orca_recipes.run.work.bench.TASKS_WORTH_WORKERS", 1)
    two_workers = made(recipe, store=tmp_path / "store-2", out=tmp_path / "out-2", workers=2)
    assert promised(tmp_path / "out-2") == promised(recipe.parent / "out")
    assert two_workers.digest == one.digest


def test_few_parts_of_a_small_build_are_made_without_starting_a_process(recipe: Path, monkeypatch: pytest.MonkeyPatch):
    run, told = Bench.run, []

    def counting(bench: Bench, function: Any, tasks: Any, *, workers: int, build: Path | None = None) -> Any:
        told.append(workers)
        return run(bench, function, tasks, workers=workers, build=build)

    monkeypatch.setattr(Bench, "run", counting)
    made(recipe, workers=2)
    assert set(told) == {1}
    made(recipe, "output.shard_tokens=2000", workers=2)
    assert told[-1] == 2, "many shards are worth workers"
    monkeypatch.setattr(publish, "_TOKENS_WORTH_WORKERS", 1)
    made(recipe, "packing.row_tokens=256", workers=2)
    assert told[-1] == 2, "many tokens are worth workers"


def test_building_again_does_nothing(recipe: Path):
    first, _ = build(asked(recipe), Progress())
    heard = Heard()
    again, fresh = build(asked(recipe), heard)
    assert (fresh, again, heard.stages) == (False, first, [])


def test_another_row_length_costs_no_reading_and_no_tokenizing(recipe: Path):
    made(recipe)
    heard = Heard()
    build(asked(recipe, "packing.row_tokens=256"), heard)
    assert heard.stages == ["pack main", "write main"]


def test_adding_a_collection_reruns_only_its_own_stages(recipe: Path):
    made(recipe)
    more = recipe.read_text().replace("take.chats", "take.extra = { all = true }\ntake.chats")
    recipe.write_text(
        more.replace("[datasets.main]", '[datasets.main]\nallow_empty = ["extra"]')
        + '\n[collections.extra]\nkind = "files"\npath = "sums.jsonl"\ncolumns = { question = "q", reference = "a" }\n'
    )
    heard = Heard()
    build(asked(recipe), heard)
    assert [stage for stage in heard.stages if "extra" not in stage] == ["pack main", "write main"]


def test_adding_a_collection_does_not_reshuffle_the_draws_of_others(recipe: Path):
    before = made(recipe, "output.shard_tokens=1000000")
    drawn = set(pl.read_parquet(recipe.parent / "out/main/00000.records.parquet").filter(collection="sums")["id"])
    text = recipe.read_text().replace("take.chats", "take.extra = { rows = 5 }\ntake.chats")
    text = text.replace("[mixtures.both]", '[mixtures.both]\nduplicates = "keep"')
    recipe.write_text(
        text + '\n[collections.extra]\nkind = "files"\npath = "chats.jsonl"\ncolumns = { messages = "messages" }\n'
    )
    after = made(recipe, "output.shard_tokens=1000000")
    still = set(pl.read_parquet(recipe.parent / "out/main/00000.records.parquet").filter(collection="sums")["id"])
    assert drawn == still
    assert before.datasets["main"].examples + 5 == after.datasets["main"].examples


def test_a_longer_draw_keeps_what_a_shorter_one_took(recipe: Path):
    ids = []
    for rows in (50, 90):
        made(recipe, f"mixtures.both.take.sums.rows={rows}", "output.shard_tokens=1000000")
        records = pl.read_parquet(recipe.parent / "out/main/00000.records.parquet")
        ids.append(set(records.filter(collection="sums")["id"]))
    assert len(ids[0]) == 50
    assert ids[0] < ids[1]


def test_the_order_of_a_files_lines_changes_nothing_but_places(recipe: Path):
    made(recipe)
    before = promised(recipe.parent / "out")
    lines = (recipe.parent / "sums.jsonl").read_text().splitlines()
    (recipe.parent / "sums.jsonl").write_text("\n".join(reversed(lines)) + "\n")
    made(recipe)
    after = promised(recipe.parent / "out")
    assert before == after


def test_a_shortfall_says_by_how_much_and_what_would_mend_it(recipe: Path):
    with pytest.raises(
        Shortfall, match=r"mixtures.both.take.sums: 900 rows are asked for, and there are 202 \(698 too few\)"
    ):
        made(recipe, "mixtures.both.take.sums.rows=900")


def test_limit_takes_the_whole_path_on_a_few_examples(recipe: Path):
    manifest = made(recipe, limit=4)
    assert {name: found.examples for name, found in manifest.datasets["main"].collections.items()} == {
        "sums": 4,
        "chats": 4,
    }
    assert not recipe.with_suffix(".lock").exists()


@pytest.mark.parametrize(("overlong", "flag"), [("truncate", 2), ("drop_turns", 4)])
def test_an_overlong_example_is_cut_as_the_recipe_says(recipe: Path, overlong: str, flag: int):
    rows = "packing.row_tokens=48"
    made(recipe, rows, f'packing.overlong="{overlong}"')
    records = pl.concat(
        [pl.read_parquet(path) for path in sorted((recipe.parent / "out/main").glob("*.records.parquet"))]
    )
    assert (records["flags"] == flag).any()
    assert records["tokens"].max() <= 48
    assert verify(recipe.parent / "out").findings == ()


def test_overlong_examples_can_stop_the_build(recipe: Path):
    with pytest.raises(OverlongExample, match=r"chats, chats.jsonl:\d+.*raise row_tokens"):
        made(recipe, "packing.row_tokens=32", 'packing.overlong="error"')


def test_two_datasets_stand_side_by_side(recipe: Path):
    recipe.write_text(recipe.read_text() + '\n[datasets.validation]\nmixture = "both"\n')
    manifest = made(recipe)
    assert set(manifest.datasets) == {"main", "validation"}
    assert verify(recipe.parent / "out").findings == ()


def test_rules_draw_system_messages_and_erasing_shows_the_student_another(recipe: Path):
    recipe.write_text(
        recipe.read_text().replace(
            'mixture = "both"\n', 'mixture = "both"\nstudent = { erase = true, system_message = "set/plain" }\n', 1
        )
        + '\n[system_messages.set.messages]\nplain = "Help."\nslow = "Think slowly."\nfast = "Be quick."\n'
        + '\n[[rules]]\nwhen = { task = "sum-*" }\nstrategy = "direct"\nsystem_messages = ["set/slow", "set/fast"]\n'
        + '\n[[rules]]\nstrategy = "direct"\n'
    )
    made(recipe, "output.shard_tokens=1000000")
    records = pl.read_parquet(recipe.parent / "out/main/00000.records.parquet")
    by_message = dict(records.filter(collection="sums")["system_message"].value_counts().iter_rows())
    assert set(by_message) == {"set/slow", "set/fast"}
    assert min(by_message.values()) > 50
    assert set(records.filter(collection="chats")["system_message"]) == {""}
    from tokenizers import Tokenizer

    from orca_recipes.shards.reader import Shard

    tokenizer = Tokenizer.from_file(str(recipe.parent / "out/tokenizer/tokenizer.json"))
    text = tokenizer.decode(Shard.open(recipe.parent / "out/main/00000").tokens.tolist(), skip_special_tokens=False)
    assert "Think slowly" not in text
    assert text.count("system\nHelp.") == records.height


def test_bad_rows_are_rejected_with_place_and_reason(recipe: Path):
    with (recipe.parent / "sums.jsonl").open("a") as file:
        file.write('{"q": 1.5}\n')
    made(recipe)
    rejected = pl.read_parquet(recipe.parent / "out" / "main" / "rejected.parquet").filter(stage="read")
    assert rejected.select("file", "line").rows() == [("sums.jsonl", 203)]
    assert "question" in rejected["reason"][0]


def test_many_bad_rows_stop_the_build_unless_the_recipe_allows_them(recipe: Path):
    with (recipe.parent / "sums.jsonl").open("a") as file:
        file.write("not json\n" * 9)
    with pytest.raises(SourceError, match=r"collections.sums: 9 of 211 rows .* sums.jsonl:203"):
        made(recipe)
    made(recipe, 'collections.sums.on_bad_row="reject"')


def test_one_id_on_two_contents_keeps_the_first_and_says_so(recipe: Path):
    text = recipe.read_text().replace('task = "t" }', 'task = "t", id = "n" }')
    recipe.write_text(text)
    lines = (recipe.parent / "sums.jsonl").read_text().splitlines()
    rows = [json.loads(line) | {"n": str(number)} for number, line in enumerate(lines)]
    rows[5]["n"] = rows[4]["n"]
    rows.append(rows[7])
    (recipe.parent / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made(recipe)
    rejected = pl.read_parquet(recipe.parent / "out" / "main" / "rejected.parquet").filter(stage="read")
    assert rejected.select("line", "reason").rows() == [
        (6, "id: an earlier row has the same id and other content"),
        (203, "id: an earlier row has the same id and the same content"),
    ]


def test_a_dataset_without_examples_is_refused(recipe: Path):
    with pytest.raises(BuildError, match=r"datasets.main: no example is left"):
        made(recipe, "datasets.main.filters.0.max_chars=1")
    assert not (recipe.parent / "out").exists()


def test_a_folder_of_other_files_is_never_overwritten(recipe: Path):
    (recipe.parent / "out").mkdir()
    (recipe.parent / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(BuildError, match="holds other files"):
        made(recipe)


def test_a_build_writes_its_lock_and_locked_holds_it_to_it(recipe: Path, tmp_path: Path):
    made(recipe)
    assert recipe.with_suffix(".lock").is_file()
    made(recipe, store=tmp_path / "s", out=tmp_path / "o", locked=True)
    (recipe.parent / "sums.jsonl").write_text('{"q": "Why?", "a": "So.", "t": "sum-1"}\n')
    with pytest.raises(LockError, match=r"collections.sums: the file sums.jsonl has other content"):
        made(recipe, locked=True)


def test_locked_refuses_a_recipe_that_was_edited_and_names_the_stages(recipe: Path):
    made(recipe)
    with pytest.raises(LockError, match=r"these stages differ: pack main, write main"):
        made(recipe, "packing.row_tokens=256", locked=True)


def test_locked_lets_data_lie_elsewhere(recipe: Path, tmp_path: Path):
    before = made(recipe)
    shutil.move(recipe.parent / "sums.jsonl", tmp_path / "sums.jsonl")
    moved = f"collections.sums.path={str(tmp_path / 'sums.jsonl')!r}"
    after = made(recipe, moved, store=tmp_path / "store", out=tmp_path / "out", locked=True)
    assert [shard.tokens for shard in after.datasets["main"].shards] == [
        shard.tokens for shard in before.datasets["main"].shards
    ]


def test_locked_needs_a_lock(recipe: Path):
    with pytest.raises(LockError, match="orca-recipe lock"):
        made(recipe, locked=True)


def test_a_stale_lock_is_pinned_anew_and_the_difference_said(recipe: Path):
    lock_recipe(asked(recipe))
    with (recipe.parent / "sums.jsonl").open("a") as file:
        file.write('{"q": "Why?", "a": "So.", "t": "sum-1"}\n')
    heard = Heard()
    build(asked(recipe), heard)
    assert "sums.jsonl has other content" in heard.said[0]
    made(recipe, locked=True)


def test_a_difference_is_one_line_whatever_a_locked_files_name_holds(recipe: Path):
    lock_recipe(asked(recipe))
    lock = recipe.with_suffix(".lock")
    lock.write_text(lock.read_text().replace('name = "sums.jsonl"', 'name = "sums\\n\\u001b[31mof.jsonl"'))
    with pytest.raises(LockError) as told:
        made(recipe, locked=True)
    assert "  collections.sums: the file sums\\n\\x1b[31mof.jsonl is locked and gone\n" in str(told.value)
    heard = Heard()
    build(asked(recipe), heard)
    assert "  collections.sums: the file sums\\n\\x1b[31mof.jsonl is locked and gone\n" in heard.said[0]


def test_the_plan_says_what_is_cached_and_why_the_rest_runs(recipe: Path):
    def states(*overrides: str) -> dict[str, tuple[str, str]]:
        this = asked(recipe, *overrides)
        shown = preview(this, prepare(this))
        return {view.name: (view.state, view.why) for view in shown.stages}

    assert states()["read sums"] == ("will run", "new")
    made(recipe)
    assert {state for state, _ in states().values()} == {"cached"}
    changed = states("packing.row_tokens=256")
    assert changed["pack main"] == ("will run", "changed: packing.row_tokens 128 -> 256")
    assert changed["write main"] == ("will run", "after pack main")
    assert changed["tokenize main/sums"] == ("cached", "")
    assert states("datasets.main.filters.0.max_chars=90")["converse main/chats"][0] == "will run"


def test_a_plan_is_the_same_byte_for_byte_wherever_it_is_made(recipe: Path, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(recipe.parent, elsewhere)
    plans = [prepare(asked(path)).plan for path in (recipe, elsewhere / recipe.name)]
    assert plans[0] == plans[1]


def test_the_engine_stands_apart_from_what_was_asked(recipe: Path, tmp_path: Path):
    one = made(recipe)
    lock = recipe.with_suffix(".lock").read_bytes()
    words = ("engine.kind=local", 'engine="local"')
    other = made(recipe, *words, store=tmp_path / "store", out=tmp_path / "out", workers=3)
    assert (other.data_digest, other.digest) == (one.data_digest, one.digest)
    assert "engine" not in other.recipe
    assert (other.set, other.made.set, other.made.engine) == ((), words, "local")
    assert (one.made.set, one.made.engine) == ((), None)
    _, fresh = build(asked(recipe, *words), Progress())
    assert not fresh, "another engine would build the same"
    assert recipe.with_suffix(".lock").read_bytes() == lock


def test_other_words_that_change_no_token_leave_the_digest_of_the_data_alone(recipe: Path, tmp_path: Path):
    one = made(recipe)
    other = made(recipe, "name=other", out=tmp_path / "out")
    assert other.data_digest == one.data_digest
    assert other.digest != one.digest
    assert made(recipe, "seed=2", out=tmp_path / "out-2").data_digest != one.data_digest


def test_rejected_parquet_and_records_have_the_same_content_digest_anywhere(recipe: Path, tmp_path: Path):
    tables = [made(recipe, store=tmp_path / name, out=tmp_path / f"o{name}").tables for name in "ab"]
    assert tables[0] == tables[1]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_source_that_is_not_there_is_told_with_its_collection(recipe: Path, workers: int):
    path = 'collections.sums.path="nowhere.jsonl"'
    with pytest.raises(SourceError, match=r"^collections\.sums: .*nowhere\.jsonl: no such file or folder"):
        made(recipe, path, workers=workers)
