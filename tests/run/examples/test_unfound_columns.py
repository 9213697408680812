"""A column that a recipe names and no row has is refused; one that only later rows have is read."""

import json
from pathlib import Path
from typing import Any

import pytest

from orca_recipes.errors import SourceError
from orca_recipes.progress import Progress
from orca_recipes.run.build import build
from tests.run.small import STUDENT, asked, write_rows

ROWS = [{"q": f"What is {n}?", "a": str(n), "sys": "Be kind.", "meta": {"stop": "done"}} for n in range(30)]
COLUMNS = 'question = "q", answer = "a"'


def built(folder: Path, rows: list[dict[str, Any]], more: str, name: str = "rows.jsonl") -> None:
    if name.endswith(".json"):
        (folder / name).write_text(json.dumps(rows))
    else:
        write_rows(folder / name, rows)
    recipe = folder / "recipe.toml"
    recipe.write_text(f'name = "r"\n[collections.c]\nkind = "files"\npath = "{name}"\n{more}\n{STUDENT}')
    build(asked(recipe), Progress())


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (f'columns = {{ {COLUMNS}, system = "syss" }}', 'no row has a column "syss" for system; did you mean "sys"?'),
        (f'columns = {{ {COLUMNS}, task = "meta.tsk" }}', r'no row has a column "meta.tsk" for task'),
        (f'columns = {{ {COLUMNS} }}\nextra = ["meta.stpo"]', r'no row has a column "meta.stpo" for extra'),
        ('columns = { question = ["q", "syss"], answer = "a" }', 'column "syss" for question; did you mean "sys"?'),
        ('columns = { question = ["p", "sys"], answer = "a" }', 'no row has a column "p" for question'),
        ('columns = { question = "q", answer = ["a", "meta.stpo"] }', r'no row has a column "meta.stpo" for answer'),
    ],
)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_a_misspelt_column_of_json_is_refused(tmp_path: Path, more: str, told: str, name: str):
    with pytest.raises(SourceError, match=told):
        built(tmp_path, ROWS, more, name)


def test_a_column_that_only_a_later_row_has_is_read(tmp_path: Path):
    rows = [{"q": row["q"], "a": row["a"]} for row in ROWS]
    built(tmp_path, [*rows, ROWS[0]], f'columns = {{ {COLUMNS}, system = "sys" }}\nextra = ["meta.stop"]')


def test_a_column_of_a_joined_text_that_only_a_later_row_has_is_read(tmp_path: Path):
    rows = [{"q": row["q"], "a": row["a"]} for row in ROWS]
    more = 'columns = { question = ["q", "meta.st\u00f6p"], answer = "a" }'
    built(tmp_path, [*rows, {**rows[0], "meta": {"st\u00f6p": "done"}}], more)


def test_the_first_column_of_a_question_may_be_in_few_rows(tmp_path: Path):
    rows = [{"q": f"{row['q']} {n}", "a": row["a"]} for n in range(9) for row in ROWS]
    built(tmp_path, [*rows, {**rows[0], "p": "Think."}], 'columns = { question = ["p", "q"], answer = "a" }')
