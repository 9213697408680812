"""`lock --explain`, on a recipe whose file, options and lock are changed by hand."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from orca_recipes.cli.main import main

HOME = Path(__file__).parents[2]
RECIPE = """\
name = "small"

[collections.rows]
kind = "files"
path = "rows.jsonl"
columns = {{ question = "q", reference = "a" }}

[tokenizer]
kind = "hf"
path = "{tokenizer}"

[template]
kind = "chatml"
"""


def explained(recipe: Path) -> dict[str, dict[str, object]]:
    done = CliRunner().invoke(main, ["lock", str(recipe), "--explain", "--json"])
    assert done.exit_code == 0, done.output
    return {change["part"]: change for change in json.loads(done.stdout)["changes"]}


def test_what_would_change_is_told_and_the_lock_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"q": "1 + 1?", "a": "2"}\n')
    recipe = tmp_path / "small.toml"
    recipe.write_text(RECIPE.format(tokenizer=(HOME / "recipes/quickstart/tokenizer.json").as_posix()))
    none = CliRunner().invoke(main, ["lock", str(recipe), "--explain"])
    assert none.exit_code == 2
    assert "there is no lock" in none.stderr
    assert CliRunner().invoke(main, ["lock", str(recipe)]).exit_code == 0
    assert explained(recipe) == {}
    lock = tmp_path / "small.lock"
    text = lock.read_text()
    older = text.replace('"strategies:direct" = ', '"strategies:direct" = 9')
    assert older != text
    lock.write_text(older)
    (tmp_path / "rows.jsonl").write_text('{"q": "1 + 1?", "a": "two"}\n')
    found = explained(recipe)
    assert "of the kind gives other output than revision 9" in str(found["kinds.strategies:direct"]["why"])
    assert found["collections.rows.files.rows.jsonl.digest"]["changes_bytes"] is True
    assert "it follows" in str(found["plan.read rows"]["why"])
    assert lock.read_text() == older
