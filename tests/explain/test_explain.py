"""`explain` says why a row is where it is, both ways, and where the store is gone what cannot be known without it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.errors import BuildError, UserError
from orca_recipes.explain.explain import explain_example, explain_place
from orca_recipes.progress import Progress
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.build import Asked, build
from orca_recipes.store.store import Store


def test_an_example_is_traced_back_to_its_line(built):
    record = built.records().filter(collection="sums", task="sum-1").row(0, named=True)
    (story,) = built.example(record["id"]).stories
    assert (story.origin.collection, story.origin.kind) == ("sums", "files")
    assert (story.origin.file, story.origin.place, story.origin.task) == ("sums.jsonl", record["line"], "sum-1")
    fate = next(fate for fate in story.fates if fate.dataset == "main")
    assert fate.outcome == "kept"
    assert fate.making.strategy == "direct"
    assert fate.making.teacher == "reference"
    assert fate.making.template == "chatml"
    assert fate.making.filters == ("length (max_chars = 2_000)",)
    assert (fate.standing.row_in_shard, fate.standing.place) == (record["row"], record["place"])
    assert (fate.standing.tokens, fate.standing.trained_tokens) == (record["tokens"], record["trained_tokens"])
    assert fate.standing.flags == ()


def test_the_beginning_of_an_id_is_enough_and_letters_may_be_large(built):
    example = built.records()["id"][0]
    (story,) = built.example(example[:12].upper()).stories
    assert story.origin.id == example


def test_an_id_that_begins_several_examples_is_refused(built):
    with pytest.raises(UserError, match="more than one example"):
        built.example("")


def test_an_id_that_no_example_has_is_refused(built):
    with pytest.raises(UserError, match=r"knows no example no-id$"):
        built.example("no-id")


def test_the_rule_that_matched_is_named_with_its_condition_and_its_message(built):
    record = built.records().filter(collection="sums", task="sum-1").row(0, named=True)
    text = str(built.example(record["id"]))
    assert "2 of 3, when task is sum-1" in text
    words = {"set/slow": "Think slowly.", "set/fast": "Be quick."}[record["system_message"]]
    assert f'{record["system_message"]}, drawn by key: "{words}"' in text


def test_an_example_of_the_rule_without_conditions_says_so(built):
    text = str(built.place("chats.jsonl:3"))
    assert "3 of 3, which matches everything" in text
    assert "none drawn: the conversation has its own" in text


def test_a_rule_by_category_is_found_with_the_store(built):
    assert built.fates("lone.jsonl:1")["side"].making.rule.number == 1
    assert built.fates("lone.jsonl:2")["side"].making.rule.number == 3


def test_without_the_store_a_rule_by_category_is_left_open(built):
    rule = built.without_store().fates("lone.jsonl:1")["side"].making.rule
    assert rule.number is None
    assert rule.unknown.startswith("1 or 3 of 3: its task and category decide, and there is no store at ")


def test_what_is_recorded_tells_rules_apart_without_the_store(built):
    record = built.records().filter(collection="sums", task="sum-1").row(0, named=True)
    (story,) = built.without_store().example(record["id"]).stories
    assert {fate.making.rule.number for fate in story.fates if fate.making} == {2}


def test_prompt_erasing_says_what_the_student_sees_instead(built):
    assert built.fates("lone.jsonl:1")["side"].making.student == "system message set/plain in place of the teacher's"


def test_a_rank_in_the_draw_says_why_a_row_was_taken(built):
    draws = [built.fates(f"sums.jsonl:{line}")["main"] for line in range(1, 203, 8)]
    assert all(1 <= fate.draw.rank <= 202 for fate in draws)
    assert len({fate.draw.rank for fate in draws}) == len(draws)
    assert all((fate.draw.rank <= 150) == (fate.outcome == "kept") for fate in draws)
    keys = [fate.draw.key for fate in sorted(draws, key=lambda fate: fate.draw.rank)]
    assert keys == sorted(keys)


def test_the_draws_of_two_mixtures_are_prefixes_of_one_order(built):
    fates = built.fates("sums.jsonl:9")
    assert fates["main"].draw.rank == fates["side"].draw.rank
    assert (fates["main"].draw.take, fates["side"].draw.take) == ("rows = 150", "rows = 20")


def test_without_the_store_the_rank_is_said_to_be_unknown(built):
    record = built.records().filter(collection="sums").row(0, named=True)
    fate = next(iter(built.without_store().example(record["id"]).stories[0].fates))
    assert fate.draw.rank is None
    assert fate.draw.unknown == f"there is no store at {built.store / 'gone'}"
    assert not (built.store / "gone").exists()


def test_a_store_that_lost_the_stage_is_named_with_it(built, tmp_path: Path):
    poorer = replace(built, store=tmp_path / "store")
    shutil.copytree(built.store, poorer.store, ignore=shutil.ignore_patterns("read-sums-*"))
    line = built.records().filter(collection="sums")["line"][0]
    assert f"the store at {poorer.store} no longer holds stage read sums" in str(poorer.place(f"sums.jsonl:{line}"))


def test_where_everything_was_taken_there_is_no_rank(built):
    draw = built.fates("chats.jsonl:3")["main"].draw
    assert (draw.take, draw.taken, draw.there, draw.rank) == ("all", 62, 62, None)


def test_a_limit_shows_in_the_draw(recipe: Path, explainable):
    limited = explainable(recipe, limit=4)
    line = limited.records().filter(collection="chats")["line"][0]
    assert "mixtures.both takes all, cut by --limit: 4 of 62 rows" in str(limited.place(f"chats.jsonl:{line}"))


def test_a_line_leads_forward_to_every_dataset_that_holds_it(built):
    both = set(built.records("main")["id"]) & set(built.records("side")["id"])
    line = built.records().filter(pl.col("id").is_in(sorted(both)))["line"][0]
    fates = built.fates(f"sums.jsonl:{line}")
    assert {name: fate.outcome for name, fate in fates.items()} == {"main": "kept", "side": "kept"}
    assert fates["main"].standing.phases == ((2, 2),)
    assert fates["side"].standing.phases == ((1, 1), (3, 3))


def test_rows_are_counted_as_show_counts_them(built):
    record = built.records("side").row(0, named=True)
    (story,) = built.example(record["id"]).stories
    standing = next(fate.standing for fate in story.fates if fate.dataset == "side")
    before = built.records("main").group_by("shard").agg(pl.col("row").max() + 1)["row"].sum()
    assert standing.row == before + record["row"]


def test_the_shard_follows_from_the_id(built):
    shards = {fate.standing.shards for fate in (built.fates(f"chats.jsonl:{n}")["main"] for n in (1, 2, 3))}
    assert shards == {len(list((built.directory / "main").glob("*.bin")))}
    record = built.records().row(0, named=True)
    assert int(record["id"][16:], 16) % shards.pop() == int(record["shard"])


def test_a_row_that_a_filter_rejected_says_which_and_why(built):
    fate = built.fates("chats/chats.jsonl:62")["main"]
    assert (fate.outcome, fate.stage) == ("rejected", "filter length")
    assert fate.reason == "too long: more than 2000 characters"
    assert fate.making.filters == ()
    assert fate.standing is None


def test_an_overlong_row_says_what_a_row_holds(built):
    fate = built.fates("chats.jsonl:61")["main"]
    assert (fate.outcome, fate.stage) == ("rejected", "pack")
    assert fate.reason == 'longer than a row (a row holds 128 tokens, and overlong = "drop")'
    assert fate.making.filters == ("length (max_chars = 2_000)",)


def test_a_rejected_example_is_found_by_its_id(built):
    rejected = pl.read_parquet(built.directory / "main" / "rejected.parquet").filter(stage="pack")["id"][0].hex()
    for asked in (built, built.without_store()):
        (story,) = asked.example(rejected).stories
        assert [fate.outcome for fate in story.fates] == ["rejected"]
        assert (story.origin.file, story.origin.place) == ("chats.jsonl", 61)


def test_a_bad_row_was_rejected_before_any_draw(built):
    for asked in (built, built.without_store()):
        fates = asked.fates("sums.jsonl:203")
        assert {(fate.outcome, fate.stage) for fate in fates.values()} == {("rejected", "read")}
        assert all("question" in fate.reason and fate.draw is None for fate in fates.values())


def test_a_row_whose_id_was_taken_is_told_with_its_reason(recipe: Path, explainable):
    recipe.write_text(recipe.read_text().replace('task = "t" }', 'task = "t", id = "n" }'))
    lines = (recipe.parent / "sums.jsonl").read_text().splitlines()
    rows = [json.loads(line) | {"n": str(number)} for number, line in enumerate(lines)]
    rows[5]["n"] = rows[4]["n"]
    (recipe.parent / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (story,) = explainable(recipe).place("sums.jsonl:6").stories
    assert story.origin.id is None
    assert [fate.reason for fate in story.fates] == ["id: an earlier row has the same id and other content"]


def test_an_undrawn_row_is_said_to_be_undrawn(built):
    line = built.undrawn()
    (story,) = built.place(f"sums.jsonl:{line}").stories
    assert [fate.outcome for fate in story.fates] == ["not drawn", "not drawn"]
    assert "so left out" in str(built.place(f"sums.jsonl:{line}"))
    (again,) = built.example(story.origin.id).stories
    assert again == story


def test_a_row_that_one_dataset_holds_was_not_drawn_in_the_other_even_without_the_store(built):
    one = set(built.records("main")["id"]) - set(built.records("side")["id"])
    line = built.records().filter(pl.col("id").is_in(sorted(one)), collection="sums")["line"][0]
    fates = built.without_store().fates(f"sums.jsonl:{line}")
    assert (fates["main"].outcome, fates["side"].outcome) == ("kept", "not drawn")


def test_without_the_store_an_undrawn_row_may_as_well_not_exist(built):
    fates = built.without_store().fates(f"sums.jsonl:{built.undrawn()}")
    assert {fate.outcome for fate in fates.values()} == {"unknown"}
    assert fates["main"].reason.startswith("not drawn, or no such row: there is no store at ")


def test_a_line_without_a_row_is_one_sentence(built):
    with pytest.raises(UserError, match=r"^--source sums.jsonl:999: collection sums has no row there$"):
        built.place("sums.jsonl:999")


def test_a_further_line_of_a_quoted_text_is_answered_with_the_line_that_its_row_begins_on(recipe: Path, explainable):
    (recipe.parent / "talk.csv").write_text('question,answer\n"What is\n1 + 1?",2\nAnd 2 + 2?,4\n')
    table = '\n[collections.talk]\nkind = "files"\npath = "talk.csv"\nshape = "question_answer"\n'
    recipe.write_text(recipe.read_text().replace("take.chats", "take.talk = { all = true }\ntake.chats") + table)
    built = explainable(recipe)
    assert built.fates("talk.csv:2")["main"].outcome == "kept"
    with pytest.raises(UserError, match=r"talk has no row there; the row before it begins on line 2, which may be"):
        built.place("talk.csv:3")
    with pytest.raises(UserError, match=r"talk has no row there$"):
        built.place("talk.csv:1")


def test_where_a_dataset_took_everything_no_store_is_needed_to_deny_a_row(built):
    with pytest.raises(UserError, match=r"collection chats has no row there$"):
        built.without_store().place("chats.jsonl:999")


@pytest.mark.parametrize("source", ["some/folder/sums.jsonl:1", "sum.jsonl:1"])
def test_a_file_of_another_name_is_answered_with_the_nearest(built, source: str):
    with pytest.raises(UserError, match=r"did you mean (sums/)?sums\.jsonl\?"):
        built.place(source)


@pytest.mark.parametrize("source", ["sums.jsonl", "sums.jsonl:", ":3", "sums.jsonl:x", "sums.jsonl:²", "s:" + "9" * 40])
def test_a_source_without_a_line_is_one_sentence(built, source: str):
    with pytest.raises(UserError, match="it wants FILE:LINE"):
        built.place(source)


def test_one_file_of_two_collections_has_two_stories_and_the_collection_tells_them_apart(recipe: Path, explainable):
    twin = '\n[collections.twin]\nkind = "files"\npath = "sums.jsonl"\ncolumns = { question = "a", reference = "q" }\n'
    recipe.write_text(recipe.read_text().replace("take.chats", "take.twin = { all = true }\ntake.chats") + twin)
    built = explainable(recipe)
    assert [story.origin.collection for story in built.place("sums.jsonl:7").stories] == ["sums", "twin"]
    assert [story.origin.collection for story in built.place("twin/sums.jsonl:7").stories] == ["twin"]


def test_generated_rows_are_asked_by_their_number(recipe: Path, explainable):
    pytest.importorskip("reasoning_gym")
    made = '\n[collections.made]\nkind = "reasoning_gym"\ntasks = ["chain_sum"]\nrows_per_task = 6\n'
    recipe.write_text(recipe.read_text().replace("take.chats", "take.made = { rows = 5 }\ntake.chats") + made)
    built = explainable(recipe)
    outcomes = [built.fates(f"made:{number}")["main"].outcome for number in range(1, 7)]
    assert sorted(outcomes) == ["kept"] * 5 + ["not drawn"]
    assert "item 2, generated" in str(built.place("made:2"))
    with pytest.raises(UserError, match="collection made has no row there"):
        built.place("made:7")
    with pytest.raises(UserError, match=r"did you mean sums/sums\.jsonl\?"):
        built.place("sums:7")


def test_a_build_is_explained_elsewhere_without_its_sources(built, tmp_path: Path):
    shutil.copytree(built.directory, tmp_path / "moved")
    assert (
        replace(built, directory=tmp_path / "moved", store=tmp_path / "store").fates("chats.jsonl:3")["main"].outcome
        == "kept"
    )


def test_a_folder_without_a_build_is_refused(tmp_path: Path):
    with pytest.raises(BuildError, match="not a complete build"):
        explain_example(tmp_path, "ab", store=tmp_path)


def test_the_niv2_build_is_explained_both_ways(shared: Path, built):
    directory = Path(__file__).parents[2] / "build" / "niv2"
    if not (directory / "manifest.json").is_file():
        pytest.skip("no NiV2 build at build/niv2")
    niv2 = replace(built, directory=directory)
    (story,) = niv2.token(3, 700).stories
    (again,) = niv2.place(f"{story.origin.collection}/{story.origin.file}:{story.origin.place}").stories
    assert again.origin == story.origin


def test_conditions_of_every_sort_are_told_in_words(recipe, explainable):
    rules = '\n[[rules]]\nwhen = { task = "sum-*", options = false, max_tokens = 900 }\nstrategy = "direct"\n'
    recipe.write_text(recipe.read_text() + rules + '\n[[rules]]\nstrategy = "direct"\n')
    built = explainable(recipe)
    record = built.records().filter(collection="sums").row(0, named=True)
    assert "1 or 2 of 2: more of the row decides" in str(built.example(record["id"]))


def test_a_row_that_was_expanded_and_repeated_is_told_as_what_was_made_of_it_and_never_as_not_drawn(recipe: Path):
    path = recipe.with_name("many.toml")
    rule = '\n[[rules]]\nstrategy = "direct"\nsystem_messages = ["s"]\nexpand = "each"\n'
    rule += '\n[system_messages.s]\nmessages = { a = "Be brief.", b = "Be kind." }\n'
    path.write_text(recipe.read_text().replace("rows = 150", "rows = 40, repeat = 2") + rule)
    store, out = recipe.parent / "store", recipe.parent / "many"
    loaded = load_recipe(path, catalogue=Catalogue())
    build(Asked(loaded=loaded, store=Store(store), directory=out, workers=1), Progress())
    told = [explain_place(out, f"sums.jsonl:{line}", store=store).stories for line in range(1, 60)]
    kept = [stories for stories in told if stories[0].fates[0].outcome == "kept"]
    assert kept
    for stories in kept:
        assert [len(story.fates) for story in stories] == [1, 1, 1, 1], "two messages, twice"
        assert {story.fates[0].outcome for story in stories} == {"kept"}
        assert {(story.fates[0].making.system_message, story.fates[0].making.is_expanded) for story in stories} == {
            ("s/a", True),
            ("s/b", True),
        }
    assert {len(stories) for stories in told if stories not in kept} == {1}
