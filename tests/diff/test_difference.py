"""What a difference says of two builds, locks or recipes."""

import json
import shutil
from pathlib import Path

import pytest

from orca_recipes.catalogue import Catalogue
from orca_recipes.cli.main import main
from orca_recipes.diff.difference import Difference, compare
from orca_recipes.diff.difference_page import difference_page
from orca_recipes.errors import BuildError, DamagedShard, UserError
from orca_recipes.progress import Progress
from orca_recipes.shards.show.show_lines import example_lines
from tests.diff.conftest import Builder, rows


def differing(before: Path, after: Path, profile: str | None = None) -> Difference:
    return compare(before, after, kinds=Catalogue(), progress=Progress(), profile=profile)


def changed(found: Difference) -> dict[str, int]:
    assert found.rows is not None
    return {name: number for name, number in found.rows.items() if number}


def test_a_build_is_equal_to_itself_and_to_its_like(plain: Path, built: Builder):
    for other in (plain, built("like")):
        found = differing(plain, other)
        assert found.is_equal
        assert changed(found) == {"same": 60}
        assert "equal" in difference_page(found).splitlines()


def test_an_answer_that_changed_is_told_with_both_texts(plain: Path, built: Builder):
    other = [row | ({"a": "Nobody knows."} if row["id"] == "s7" else {}) for row in rows()]
    found = differing(plain, built("reanswered", of=other))
    counts = changed(found)
    assert counts["reanswered"] == 1
    assert sum(counts.values()) == 60
    (example,) = found.examples["reanswered"]
    assert example.before is not None
    assert example.after is not None
    assert [span.text for span in example.before.segments if span.trained] == ["It is 56.<|im_end|>"]
    assert [span.text for span in example.after.segments if span.trained] == ["Nobody knows.<|im_end|>"]
    assert example.before.place == 8
    tokens = found.tokens["datasets"]["main"]["collections"]["sums"]
    assert list(tokens["tasks"]) == ["sum-1"]
    assert tokens["before"]["tokens"] - tokens["after"]["tokens"] == example.before.tokens - example.after.tokens
    page = difference_page(found)
    assert page.index("what is trained in ⟦⟧") < page.index("⟦Nobody knows.<|im_end|>⟧")


def test_rows_that_come_and_go_are_counted_by_id(plain: Path, built: Builder):
    other = [*rows()[:55], {"id": "new", "q": "Why?", "a": "So.", "t": "sum-0"}]
    found = differing(plain, built("others", of=other))
    counts = changed(found)
    assert (counts["dropped"], counts["added"]) == (5, 1)
    ids = [{line["id"] for line in example_lines(side)} for side in (plain, found.after.path)]
    assert [example.id for example in found.examples["added"]] == list(ids[1] - ids[0])
    assert {example.id for example in found.examples["dropped"]} <= ids[0] - ids[1]


def test_one_other_rule_leaves_the_answers_and_is_named(plain: Path, built: Builder):
    found = differing(plain, built("rule", 'rules=[{strategy = "direct", system_messages = ["set/kind"]}]'))
    assert [change.path for change in found.recipe] == ["rules.0.system_messages", "set"]
    assert changed(found) == {"reasked": 60}
    assert found.tokens["before"]["trained_tokens"] == found.tokens["after"]["trained_tokens"]


def test_another_row_size_moves_examples_and_changes_none(plain: Path, built: Builder):
    found = differing(plain, built("wide", "packing.row_tokens=512"))
    assert set(changed(found)) <= {"same", "moved"}
    assert changed(found)["moved"] > 0
    assert found.tokens["before"]["tokens"] == found.tokens["after"]["tokens"]


def test_a_dataset_of_another_name_is_the_same_examples_moved(plain: Path, built: Builder):
    found = differing(plain, built("renamed", 'datasets={other = {mixture = "all"}}'))
    assert changed(found) == {"moved": 60}


def test_recipes_are_compared_as_written_and_locks_with_them(plain: Path, built: Builder, tmp_path: Path):
    first = plain.parent / "recipe.toml"
    second = tmp_path / "recipe.toml"
    second.write_text(first.read_text().replace("row_tokens = 128", "row_tokens = 256") + "[profiles.big]\nseed = 8\n")
    found = differing(first, second)
    assert [change.as_json() for change in found.recipe] == [
        {"path": "packing.row_tokens", "before": 128, "after": 256},
        {"path": "profiles", "before": None, "after": {"big": {"seed": 8}}},
    ]
    assert found.rows is None
    assert found.not_compared == (f"pins: {second} has no lock beside it; `orca-recipe lock {second}` writes one",)
    other = differing(first, first)
    assert other.is_equal
    assert other.not_compared == ()


def test_recipes_are_compared_with_what_they_extend(plain: Path, tmp_path: Path):
    """Two may be the same text over other recipes of one name."""
    text = (plain.parent / "recipe.toml").read_text()
    for name, tokens in (("one", 128), ("two", 256)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "base.toml").write_text(text.replace("row_tokens = 128", f"row_tokens = {tokens}"))
        (tmp_path / name / "recipe.toml").write_text('extends = "base.toml"\n')
    found = differing(tmp_path / "one" / "recipe.toml", tmp_path / "two" / "recipe.toml")
    assert [change.path for change in found.recipe] == ["packing.row_tokens"]


def test_locks_are_compared_pin_by_pin(plain: Path, built: Builder):
    other = built("pinned", of=rows()[:50])
    found = differing(plain.parent / "recipe.lock", other.parent / "recipe.lock")
    paths = [change.path for change in found.pins]
    assert 'pins.collections.sums.files."sums.jsonl".digest' in paths
    assert any(path.startswith("outcomes.") for path in paths)


def test_two_of_different_sorts_are_refused(plain: Path):
    with pytest.raises(UserError, match="name two recipes, two locks or two builds"):
        differing(plain, plain.parent / "recipe.toml")
    with pytest.raises(BuildError, match="not a complete build"):
        differing(plain, plain.parent)
    with pytest.raises(UserError, match="there is no such lock"):
        differing(plain.parent / "recipe.lock", plain / "none.lock")


@pytest.mark.parametrize("name", ["00000.records.parquet", "00000.idx"])
def test_a_damaged_build_is_refused_before_its_first_row(plain: Path, tmp_path: Path, name: str):
    shutil.copytree(plain, tmp_path / "b")
    path = sorted((tmp_path / "b" / "main").glob(f"*{name.removeprefix('00000')}"))[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedShard, match=r"its digest is|it cannot be read as Parquet"):
        differing(plain, tmp_path / "b")


def test_a_build_of_format_1_is_compared_by_the_digests_of_its_tokens(old: Path):
    (manifest,) = old.rglob("manifest.json")
    found = differing(manifest.parent, manifest.parent)
    assert found.is_equal
    assert changed(found) == {"same": sum(found.rows.values())}


def test_the_command_prints_one_object_and_says_by_its_status_whether_they_are_equal(
    plain: Path, built: Builder, capsys: pytest.CaptureFixture[str]
):
    other = built("fewer", of=rows()[:59])
    for second, status in ((plain, 0), (other, 1)):
        with pytest.raises(SystemExit) as stop:
            main(["diff", str(plain), str(second), "--json"])
        assert stop.value.code == status
        told = json.loads(capsys.readouterr().out)
        assert {"recipe", "pins", "rows", "tokens"} <= set(told)
        assert {"same", "added", "dropped", "reanswered", "remasked", "moved"} <= set(told["rows"])
    assert told["rows"]["dropped"] == 1
