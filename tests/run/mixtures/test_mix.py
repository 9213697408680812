"""What mixtures take of real files: counts, prefixes, questions that are kept apart, repeats."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from tokenizers import Tokenizer

from orca_recipes.catalogue import Catalogue
from orca_recipes.cli.main import main
from orca_recipes.errors import MixtureError, Shortfall
from orca_recipes.explain.explain import explain_example, explain_place
from orca_recipes.preview.preview import declared, preview
from orca_recipes.progress import Progress
from orca_recipes.prove.prove import prove
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.build import prepare, scan
from orca_recipes.run.examples.read import batches_of
from orca_recipes.run.examples.selection import copy_ids, read_selection, taken_copies
from orca_recipes.shards.manifest import Contents, Manifest, read_manifest, sealed, write_manifest
from orca_recipes.shards.records import DUPLICATE, EXCLUDED, RESERVED
from orca_recipes.store.arrow_files import read_frame
from tests.run.mixtures.drawn import APART, HEAD, MAIN, TOKENIZER, Draw, Drawn, asked_of, records


def test_all_rows_and_shares_give_exactly_what_is_asked(draw: Draw):
    takes = "rows = 101\ntake.apples = { share = 0.5 }\ntake.pears = { share = 0.25 }\ntake.talks = { share = 0.25 }\n"
    assert draw(f"[mixtures.m]\n{takes}").out("m") == {"apples": 51, "pears": 25, "talks": 25}
    takes = "take.apples = { rows = 77 }\ntake.talks = { all = true }\n"
    assert draw(f"[mixtures.m]\n{takes}").out("m") == {"apples": 77, "talks": 100}


def test_at_most_so_many_of_each_task_or_category(draw: Draw):
    takes = "take.apples = { per_category = 40 }\ntake.pears = { per_task = 60 }\nduplicates = 'keep'\n"
    drawn = draw(f"[mixtures.m]\n{takes}")
    assert drawn.by_task("m", "pears") == {"large": 60, "small": 50}
    counts = drawn.rows("m", "apples").group_by("category").len().sort("category")
    assert dict(counts.iter_rows()) == {"c0": 40, "c1": 40}


def test_categories_are_asked_of_rows_that_have_none(draw: Draw):
    with pytest.raises(MixtureError, match=r"mixtures.m.take.pears: per_category = 3, and no row of the"):
        draw("[mixtures.m]\ntake.pears = { per_category = 3 }\n")


def test_uniform_tasks_draws_small_tasks_whole_and_large_ones_alike(draw: Draw):
    drawn = draw('[mixtures.m]\ntake.pears = { rows = 150, draw = "uniform_tasks" }\n')
    assert drawn.by_task("m", "pears") == {"large": 100, "small": 50}
    assert drawn.report("m", "pears")["level"] == 100


def test_proportional_counts_a_large_task_up_to_its_cap(draw: Draw):
    take = 'take.pears = { rows = 100, draw = "proportional", cap = 150 }'
    assert draw(f"[mixtures.m]\n{take}\n").by_task("m", "pears") == {"large": 75, "small": 25}
    flat = 'take.pears = { rows = 40, draw = "proportional", temperature = 2 }'
    assert draw(f"[mixtures.m]\n{flat}\n").by_task("m", "pears") == {"large": 30, "small": 10}


def test_shares_of_tokens_end_before_the_row_that_would_be_too_many(draw: Draw):
    drawn = draw("[mixtures.m]\ntokens = 1_000\ntake.apples = { share = 0.4 }\ntake.pears = { share = 0.6 }\n")
    folder = drawn.bench.folder("measure pears")
    tokens = np.concatenate([read_frame(part.file(".arrow"))["tokens"].to_numpy() for part in folder.parts()])
    copies = taken_copies(drawn.bench.folder("mix m/pears"))
    assert 600 - tokens.max() < int(tokens[copies > 0].sum()) <= 600
    read = pl.concat([read_frame(batch.path) for batch in batches_of(drawn.bench.folder("read pears"))])
    encoded = Tokenizer.from_file(TOKENIZER).encode_batch(read["question"].to_list(), add_special_tokens=False)
    assert tokens.tolist() == [len(encoding.ids) for encoding in encoded]


def test_a_context_of_two_collections_is_the_first_ones(draw: Draw):
    takes = "take.apples = { rows = 1 }\ntake.pears = { all = true }\ntake.talks = { all = true }\n"
    drawn = draw(f"[mixtures.m]\n{takes}")
    assert drawn.out("m") == {"apples": 1, "pears": 480, "talks": 100}
    assert drawn.report("m", "pears")["left_out"] == {DUPLICATE: 20}
    assert draw(f"[mixtures.m]\nduplicates = 'keep'\n{takes}").out("m") == {"apples": 1, "pears": 500, "talks": 100}


def test_a_mixture_of_one_collection_looks_at_no_question(draw: Draw):
    verbs = {stage.verb for stage in draw("[mixtures.m]\ntake.pears = { rows = 10 }\n").bench.plan}
    assert not verbs & {"contexts", "questions", "measure", "allot", "keep"}


def test_excluded_questions_are_in_neither_collection(draw: Draw):
    tables = "[mixtures.m]\nduplicates = 'keep'\ntake.apples = { rows = 100 }\n"
    tables += "[mixtures.o]\nexclude = ['m']\nduplicates = 'keep'\ntake.apples = { all = true }\n"
    tables += "take.pears = { all = true }\ntake.talks = { all = true }\n[datasets.o]\nmixture = 'o'\n"
    drawn = draw(tables)
    taken = drawn.questions("m", "apples")
    for collection in ("apples", "pears", "talks"):
        assert not taken & drawn.questions("o", collection)
    assert drawn.out("o")["apples"] == 200
    assert drawn.out("o")["pears"] == 500 - len(taken & {f"a {n}?" for n in range(20)})


def test_what_an_excluded_mixture_holds_in_reserve_has_a_reason_of_its_own(draw: Draw):
    tables = "[mixtures.m]\ntake.apples = { rows = 100, reserve = 0.5 }\n[mixtures.o]\nexclude = ['m']\n"
    tables += "take.apples = { all = true }\n[mixtures.p]\nfrom = 'o'\nrows = 30\nexclude = ['m']\n"
    drawn = draw(tables + "[datasets.m]\nmixture = 'm'\n[datasets.o]\nmixture = 'o'\n[datasets.p]\nmixture = 'p'\n")
    assert drawn.report("o", "apples")["left_out"] == {EXCLUDED: 100, RESERVED: 50}
    assert drawn.out("o")["apples"] == 150
    assert drawn.out("p")["apples"] == 30


def test_a_repeated_row_stands_often_and_its_repeats_have_ids_of_their_own(draw: Draw):
    takes = "take.talks = { rows = 250, max_repeat = 3 }\ntake.pears = { all = true, repeat = 2 }\n"
    drawn = draw(f"[mixtures.m]\n{takes}take.apples = {{ rows = 1 }}\n")
    talks = drawn.rows("m", "talks")
    assert Counter(talks["copies"].to_list()) == {3: 50, 2: 50}
    assert drawn.report("m", "talks")["created"] == {"repeat": 250 - talks.height}
    assert drawn.report("m", "pears")["out"] == 2 * drawn.rows("m", "pears").height
    ids = copy_ids(np.full(1000, 7, dtype=np.uint64), np.arange(1000))
    assert len(set(ids.tolist())) == 1000
    assert ids[0] == 7


@pytest.mark.parametrize(
    ("take", "sentence"),
    [
        (
            "{ rows = 600 }",
            "mixtures.m.take.pears: 600 rows are asked for, and there are 500 (100 too few); ask for at most 500, "
            "say max_repeat = 2 to repeat rows, say allow_shortfall = true to take what there is, "
            "or add to the collection",
        ),
        (
            "{ rows = 500_000_000 }",
            "mixtures.m.take.pears: 500000000 rows are asked for, and there are 500 (499999500 too few); ask for at "
            "most 500, say allow_shortfall = true to take what there is, or add to the collection",
        ),
        (
            "{ rows = 1_600, max_repeat = 3 }",
            "mixtures.m.take.pears: 1600 rows are asked for, and there are 1500 (500, each 3 times) (100 too few); "
            "ask for at most 1500, say allow_shortfall = true to take what there is, or add to the collection",
        ),
    ],
)
def test_a_shortfall_says_the_numbers_and_what_would_mend_it(draw: Draw, take: str, sentence: str):
    with pytest.raises(Shortfall) as told:
        draw(f"[mixtures.m]\ntake.pears = {take}\n")
    assert str(told.value) == sentence


def test_only_tasks_that_are_named_are_taken(draw: Draw):
    takes = 'take.apples = { all = true, tasks = ["t[01]"] }\ntake.pears = { rows = 30, tasks = "sm*" }\n'
    drawn = draw(f"[mixtures.m]\n{takes}")
    assert drawn.by_task("m", "apples") == {"t0": 75, "t1": 75}
    assert drawn.by_task("m", "pears") == {"small": 30}
    assert drawn.report("m", "apples")["left_out"] == {"its task is not taken": 150}


def test_tasks_that_are_not_taken_leave_the_draw_of_the_others_as_it_is(draw: Draw):
    takes = 'take.pears = { per_task = 7, tasks = ["large"] }\n'
    some, all_of_them = draw(f"[mixtures.m]\n{takes}"), draw("[mixtures.m]\ntake.pears = { per_task = 7 }\n")
    assert some.questions("m", "pears") < all_of_them.questions("m", "pears")


def test_a_pattern_of_tasks_that_fits_none_is_refused(draw: Draw):
    with pytest.raises(MixtureError, match=r'take.pears.tasks: no task fits "lar"; did you mean "large"'):
        draw('[mixtures.m]\ntake.pears = { all = true, tasks = ["lar"] }\n')


def test_a_shortfall_that_is_allowed_gives_what_there_is(draw: Draw):
    tables = "[mixtures.m]\ntake.pears = { rows = 600, allow_shortfall = true }\n"
    assert draw(tables).out("m") == {"pears": 500}


def test_adding_a_collection_leaves_the_other_collections_rows_as_they_were(draw: Draw, orchard: Path):
    takes = 'take.apples = { per_task = 20 }\ntake.pears = { rows = 90, draw = "uniform_tasks" }\n'
    before, after = draw(f"[mixtures.m]\n{takes}"), draw(f"[mixtures.m]\n{takes}take.talks = {{ all = true }}\n")
    for collection in ("apples", "pears"):
        name = f"mix m/{collection}"
        assert before.bench.plan[name].fingerprint == after.bench.plan[name].fingerprint
        one, other = (read_selection(drawn.bench.folder(name)) for drawn in (before, after))
        assert one.tobytes() == other.tobytes()


def test_another_count_changes_a_draw_in_length_only(draw: Draw):
    questions = []
    for rows in (90, 130):
        drawn = draw(f'[mixtures.m]\ntake.pears = {{ rows = {rows}, draw = "uniform_tasks" }}\n')
        questions.append(drawn.questions("m", "pears"))
    assert questions[0] < questions[1]


def test_a_limit_takes_the_first_of_a_draw(draw: Draw):
    whole = draw("[mixtures.m]\ntake.pears = { rows = 90 }\n")
    few = draw("[mixtures.m]\ntake.pears = { rows = 90 }\n", limit=7)
    assert few.out("m") == {"pears": 7}
    assert few.questions("m", "pears") < whole.questions("m", "pears")


def test_verify_proves_that_mixtures_are_kept_apart(apart: tuple[Manifest, Path]):
    report = prove(apart[1], kinds=Catalogue(), progress=Progress())
    assert report.findings == ()
    assert report.checked["pairs_of_datasets_kept_apart"] == 5
    assert records(apart[1], "main")["question_digest"].null_count() == 0
    told = {name: set(records(apart[1], name)["question_digest"]) for name in ("main", "validation", "other", "part")}
    assert not told["main"] & told["validation"]
    assert not (told["main"] | told["validation"]) & told["other"]


def test_every_row_of_every_mixture_is_accounted_for(apart: tuple[Manifest, Path]):
    for name, counts in apart[0].datasets.items():
        for stage in counts.stages:
            came, went = stage.taken + sum(stage.created.values()), stage.out + sum(stage.rejected.values())
            assert came == went, (name, stage.name)
    stages = {stage.name: stage for stage in apart[0].datasets["main"].stages}
    assert stages["mix m/talks"].created["repeat"] > 0
    assert stages["mix m/pears"].out == 90


def test_a_planted_question_is_found(apart: tuple[Manifest, Path], orchard: Path):
    """The other mixture's words: a recipe that says that `part` was to be kept apart from `main`."""
    manifest = read_manifest(apart[1])
    contents = manifest.model_dump(mode="json", by_alias=True, exclude={"data_digest", "digest", "made", "seal"})
    contents["recipe"]["mixtures"]["p"]["exclude"] = ["m"]
    try:
        write_manifest(apart[1], sealed(Contents.model_validate_json(json.dumps(contents)), made=manifest.made))
        told = [finding.sentence for finding in prove(apart[1], kinds=Catalogue(), progress=Progress()).findings]
    finally:
        write_manifest(apart[1], manifest)
    assert [sentence for sentence in told if "stand in dataset part too" in sentence]


def test_an_example_that_stands_too_often_is_found(apart: tuple[Manifest, Path]):
    manifest = read_manifest(apart[1])
    contents = manifest.model_dump(mode="json", by_alias=True, exclude={"data_digest", "digest", "made", "seal"})
    del contents["recipe"]["mixtures"]["m"]["take"]["talks"]["max_repeat"]
    try:
        write_manifest(apart[1], sealed(Contents.model_validate_json(json.dumps(contents)), made=manifest.made))
        told = [finding.sentence for finding in prove(apart[1], kinds=Catalogue(), progress=Progress()).findings]
    finally:
        write_manifest(apart[1], manifest)
    words = "an example of collection talks stands 2 times in the dataset, and its mixture lets it stand 1 times"
    assert words in told


def test_a_repeat_is_explained_by_the_row_that_it_repeats(apart: tuple[Manifest, Path], orchard: Path):
    table = records(apart[1], "main").filter(collection="talks")
    line = table.group_by("line").len().filter(pl.col("len") > 1).sort("line")["line"][0]
    examples = [example.hex() for example in table.filter(line=line)["id"]]
    assert len({example[:16] for example in examples}) == 1
    for example in examples:
        (story,) = explain_example(apart[1], example, store=orchard / "store").stories
        assert (story.origin.file, story.origin.place) == ("talks.jsonl", line)
        fate = next(fate for fate in story.fates if fate.dataset == "main")
        assert (fate.outcome, fate.draw.repeats > 0) == ("kept", True)
    stories = explain_place(apart[1], f"talks.jsonl:{line}", store=orchard / "store").stories
    assert {story.origin.id for story in stories} >= set(examples)


def test_a_row_left_out_for_its_question_is_told_why(apart: tuple[Manifest, Path], orchard: Path):
    (story,) = explain_place(apart[1], "pears.jsonl:1", store=orchard / "store").stories
    fate = next(fate for fate in story.fates if fate.dataset == "main")
    twin = explain_place(apart[1], "apples.jsonl:1", store=orchard / "store").stories[0].origin.id
    assert (fate.outcome, fate.reason) == ("not drawn", f"{DUPLICATE} (example {twin}, apples/apples.jsonl:1)")
    assert fate.draw.left_out[DUPLICATE] == 20
    held = records(apart[1], "validation").filter(collection="apples")["line"][0]
    (story,) = explain_place(apart[1], f"apples.jsonl:{held}", store=orchard / "store").stories
    fate = next(fate for fate in story.fates if fate.dataset == "main")
    assert (fate.outcome, fate.reason) == ("not drawn", "its question is held out")


def test_the_plan_says_exactly_what_a_scanned_recipe_takes(draw: Draw, orchard: Path):
    asked = asked_of(orchard, APART)
    drawn = Drawn(scan(asked, prepare(asked), Progress()))
    told = preview(asked, prepare(asked)).as_json()["mixtures"]
    assert told["m"]["collections"]["pears"]["duplicates"] == 20
    assert (told["m"]["collections"]["pears"]["rows"], told["m"]["collections"]["pears"]["drawn"]) == (60, 90)
    assert told["m"]["rows"] == 60 + 60 + 120
    for name in ("v", "p", "o"):
        assert {found: view["rows"] for found, view in told[name]["collections"].items()} == drawn.out(name)
        assert {view["state"] for view in told[name]["collections"].values()} == {"exact"}


def test_the_plan_before_a_scan_counts_with_what_the_recipe_expects(orchard: Path):
    tables = '[mixtures.m]\nrows = 1_000\ntake.apples = { share = 0.9, draw = "uniform_tasks" }\n'
    tables += "take.pears = { share = 0.1 }\n[mixtures.p]\nfrom = 'm'\nrows = 100\n[datasets.p]\nmixture = 'p'\n"
    asked = asked_of(orchard, tables + MAIN)
    path = orchard / "expecting.toml"
    text = (HEAD + tables + MAIN).replace('"apples.jsonl"', '"gone.jsonl"\nexpected_rows = 800')
    path.write_text(text.replace('"pears.jsonl"', '"gone.jsonl"\nexpected_rows = 5_000'))
    told = declared(load_recipe(path, catalogue=Catalogue()).recipe, limit=None).as_json()["mixtures"]
    assert asked.loaded.recipe.mixtures["m"].rows == 1000
    assert {found: view["rows"] for found, view in told["m"]["collections"].items()} == {"apples": 800, "pears": 100}
    assert told["m"]["short"] == {"apples": 100}
    assert {found: view["rows"] for found, view in told["p"]["collections"].items()} == {"apples": 89, "pears": 11}
    assert told["p"]["rows"] == 100


def test_plan_scan_prints_the_exact_table(orchard: Path):
    asked = asked_of(orchard, "[mixtures.m]\ntake.apples = { per_task = 20 }\ntake.pears = { rows = 10 }\n")
    command = ["plan", str(asked.loaded.path), "--scan", "--store", str(orchard / "store")]
    told = CliRunner().invoke(main, command)
    assert told.exit_code == 0, told.output
    lines = [line.split() for line in told.output.splitlines() if line.startswith("m ")]
    assert lines[0][:4] == ["m", "apples", "300", "80"]
    assert lines[1] == ["m", "pears", "500", "10", "20", "duplicates", "left", "out", "exact"]
    assert lines[2] == ["m", "in", "all", "90"]
