"""A build ends with one table: readable with one collection and with five hundred, on a narrow terminal too."""

from pathlib import Path

import pytest

from orca_recipes.progress import Progress
from orca_recipes.run.build import build
from orca_recipes.run.closing_table import closing_table, shares_json
from orca_recipes.shards.manifest import CollectionCounts, DatasetCounts, Manifest, StageCounts, TaskCounts
from tests.run.small import STUDENT, asked, write_rows


def manifest_of(names: list[str], takes: dict | None = None, **lost) -> Manifest:
    """A manifest with these collections, each with ten examples; lost: reasons of the first one, by verb."""
    one = {"examples": 10, "tokens": 1_000, "trained_tokens": 100}
    stages = []
    for number, name in enumerate(names):
        for verb, subject in (("read", name), ("mix", f"m/{name}"), ("converse", f"main/{name}")):
            rejected = lost.get(verb, {}) if number == 0 else {}
            count = sum(rejected.values()) + 10
            stages.append(
                StageCounts.model_validate(
                    {
                        "name": f"{verb} {subject}",
                        "in": count,
                        "created": {},
                        "out": 10,
                        "rejected": rejected,
                        "unused_columns": tuple(lost.get("unused", ())) if number == 0 and verb == "read" else (),
                    }
                )
            )
    counts = DatasetCounts(
        rows=1,
        **{key: value * len(names) for key, value in one.items()},
        fill="0.500000",
        collections={name: CollectionCounts(**one, tasks={"t": TaskCounts(**one)}) for name in names},
        stages=tuple(stages),
        shards=(),
    )
    chosen = takes if takes is not None else {name: {"all": True} for name in names}
    recipe = {"mixtures": {"m": {"take": chosen}}, "datasets": {"main": {"mixture": "m"}}}
    return Manifest.model_construct(datasets={"main": counts}, recipe=recipe, limit=None)


def test_one_collection_is_one_line_with_its_shares(recipe: Path):
    lines = closing_table(build(asked(recipe), Progress())[0]).splitlines()
    assert lines[0].split() == [*("collection", "asked", "examples", "tokens", "trained", "passed", "over", "rejected")]
    assert lines[1].split()[:5] == ["sums", "150", "rows", "150", "71.4%"]
    assert lines[2].split()[:3] == ["chats", "all", "60"]


def test_what_was_lost_is_told_below_with_its_first_reasons_and_what_is_not_read():
    lost = {"read": {"question: it is empty": 4}, "converse": {"too long": 2, "b": 1, "c": 1, "d": 1}}
    mix = {"not drawn": 7, "an excluded mixture holds its question": 3}
    told = closing_table(manifest_of(["cot", "gym"], mix=mix, **lost, unused=["id", "meta.score"])).splitlines()
    assert told[1].split()[-2:] == ["3", "9"]
    assert told[3:] == [
        "  cot: 3 passed over: 3 an excluded mixture holds its question",
        "  cot: 9 rejected: 4 question: it is empty; 2 too long; 1 b; and 2 other reasons",
        "  cot: columns not used: id, meta.score",
    ]


def test_what_was_asked_is_told_in_the_words_of_the_recipe():
    takes = {"a": {"share": 0.3}, "b": {"share": 0.7}}
    manifest = manifest_of(["a", "b"])
    manifest.recipe["mixtures"]["m"] = {"take": takes, "rows": 20}
    assert [line.split()[1:4] for line in closing_table(manifest).splitlines()[1:]] == [
        ["30.0%", "of", "rows"],
        ["70.0%", "of", "rows"],
    ]
    for told, words in (("question", "question tokens"), ("conversation", "tokens"), ("trained", "trained tokens")):
        manifest.recipe["mixtures"]["m"] = {"take": takes, "tokens": 20, "tokens_of": told}
        assert f"a           30.0% of {words}  " in closing_table(manifest)
    more = closing_table(manifest_of(["a", "b"], {"a": {"rows": 10}, "b": {"per_task": 10}})).splitlines()
    assert (more[1].split()[1:3], more[2].split()[1:4]) == (["10", "rows"], ["10", "a", "task"])


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("count", [1, 3, 500])
def test_the_table_is_readable_with_few_and_many_collections_at_any_width(count: int, width: int):
    names = [f"a-collection-with-a-rather-long-name-{number:03d}" for number in range(count)]
    told = closing_table(manifest_of(names, converse={"too long": 2}), width=width).splitlines()
    table = [line for line in told if not line.startswith(" ")]
    assert max(map(len, table)) <= width
    assert len(told) <= 63
    assert any("2 too long" in line for line in told), "what was lost is never among what is left out"
    assert (f"and {count - 40} more collections" in "\n".join(told)) == (count > 40)


def test_names_that_look_like_markup_or_steer_a_terminal_are_shown_as_they_are():
    told = closing_table(manifest_of(["[red]x[/red]", ":bomb:", "\x1b[31mred\nline"], read={"[bold]no": 1}))
    assert "[red]x[/red]" in told
    assert ":bomb:" in told
    assert "\x1b" not in told
    assert "1 [bold]no" in told
    assert len(told.splitlines()) == 5


def test_two_datasets_stand_in_one_table(tmp_path: Path):
    folder = tmp_path / "project"
    folder.mkdir()
    write_rows(folder / "a.jsonl", [{"question": f"q{n}", "reference": "a", "score": n} for n in range(4)])
    (folder / "two.toml").write_text(
        'name = "two"\n[collections.a]\nkind = "files"\npath = "a.jsonl"\n[mixtures.m]\ntake.a = { all = true }\n'
        '[datasets.x]\nmixture = "m"\n[datasets.y]\nmixture = "m"\n' + STUDENT
    )
    manifest, _ = build(asked(folder / "two.toml"), Progress())
    lines = closing_table(manifest).splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["x/a", "y/a"]
    assert lines[3] == "  x/a: columns not used: score"
    found = shares_json(manifest)
    assert found["y"]["a"] == {
        "asked": "all",
        "examples": 4,
        "tokens": manifest.datasets["y"].tokens,
        "trained_tokens": manifest.datasets["y"].trained_tokens,
        "passed_over": {},
        "rejected": {},
        "columns_not_used": ["score"],
    }
