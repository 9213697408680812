"""Columns that only some files have: options, language, reasoning, and others that are kept for strategies."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from orca_plugins.sources.files.kind import Files
from orca_recipes.errors import SourceError

ROWS: list[dict[str, Any]] = [
    {"question": "q1", "o": ["a", "b"], "l": "en", "r": "hard", "hint": "h", "n": {"x": 1}},
    {"question": "q2", "o": "only", "l": None, "r": None, "hint": None, "n": {"x": 2}},
]
COLUMNS = {"options": "o", "language": "l", "reasoning": "r"}


def read(path: Path, **options: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    source = Files.model_validate_json(json.dumps({"kind": "files", "path": str(path), **options}))
    readings = [reading for piece in source.slices(slice_bytes=1 << 20) for reading in source.read(slice=piece)]
    return tuple(pl.concat([getattr(one, name) for one in readings]) for name in ("rows", "rejected"))  # type: ignore[return-value]


def write(path: Path) -> Path:
    if path.suffix == ".parquet":
        rows = [{**row, "o": [row["o"]] if isinstance(row["o"], str) else row["o"]} for row in ROWS]
        pl.DataFrame(rows).write_parquet(path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(ROWS))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.parquet"])
def test_columns_that_a_recipe_names_are_read_in_every_format(tmp_path: Path, name: str):
    rows, rejected = read(write(tmp_path / name), columns=COLUMNS, extra=["hint", "n.x"])
    assert rejected.height == 0
    assert rows["options"].to_list() == [["a", "b"], ["only"]]
    assert rows["language"].to_list() == ["en", None]
    assert rows["reasoning"].to_list() == ["hard", None]
    assert rows["extra"].to_list() == [
        [{"name": "hint", "value": "h"}, {"name": "n.x", "value": "1"}],
        [{"name": "hint", "value": None}, {"name": "n.x", "value": "2"}],
    ]


def test_a_csv_gives_one_option_and_other_columns_too(tmp_path: Path):
    (tmp_path / "rows.csv").write_text("question,o,hint\nq1,a,h\nq2,,\n")
    rows, _ = read(tmp_path / "rows.csv", columns={"options": "o"}, extra=["hint"])
    assert rows["options"].to_list() == [["a"], None]
    assert [values[0]["value"] for values in rows["extra"].to_list()] == ["h", None]


def test_a_column_of_such_a_name_is_left_alone_unless_a_recipe_names_it(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"question": "q", "options": {"A": 1}, "reasoning": [1]}) + "\n")
    rows, rejected = read(tmp_path / "rows.jsonl")
    assert (rows.height, rejected.height) == (1, 0)
    assert rows.select("options", "language", "reasoning", "extra").row(0) == (None,) * 4


def test_options_that_are_no_texts_reject_the_row(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text('{"question": "q", "o": ["a", 1.5]}\n{"question": "q", "o": ["a", null]}\n')
    _, rejected = read(tmp_path / "rows.jsonl", columns={"options": "o"})
    assert rejected["reason"].to_list() == [
        "options: a list that holds a number with a fraction or exponent",
        "options: a list that holds null",
    ]


def test_an_extra_column_that_a_file_lacks_is_a_fault(tmp_path: Path):
    with pytest.raises(SourceError, match=r'no column "hnt" for extra; .*did you mean "hint"'):
        read(write(tmp_path / "rows.parquet"), extra=["hnt"])


def test_extra_columns_are_named_once():
    with pytest.raises(ValidationError, match="name each extra column of the file once"):
        Files(path=Path("x"), extra=("a", "a"))
