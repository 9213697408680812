"""Columns of files that nothing reads are told, whatever the format."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orca_plugins.sources.files.kind import Files

ROWS = [
    {"q": "one", "a": "1", "meta": {"task": "t", "score": 3}, "id": 4, "lang": "en"},
    {"q": "two", "a": "2", "meta": {"task": "t", "score": 4}, "id": 5, "lang": "de"},
]
COLUMNS = {"question": "q", "reference": "a", "task": "meta.task"}
NAMED = {"question": "q", "reference": "a"}


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.gz", "x.json", "x.parquet"])
def test_columns_that_nothing_reads_are_named_by_their_dotted_names(tmp_path: Path, name: str):
    path = tmp_path / name
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    match path.suffix:
        case ".jsonl":
            path.write_bytes(lines)
        case ".gz":
            path.write_bytes(gzip.compress(lines))
        case ".json":
            path.write_text(json.dumps(ROWS))
        case _:
            pq.write_table(pa.Table.from_pylist(ROWS), path)
    assert Files(path=path, columns=COLUMNS).unused_columns() == ["id", "lang", "meta.score"]
    assert Files(path=path, columns=NAMED, extra=("lang",)).unused_columns() == ["id", "meta"]
    assert Files(path=path, columns=NAMED, ignore_keys=("meta", "id", "lang")).unused_columns() == []


@pytest.mark.parametrize(("name", "mark"), [("x.csv", ","), ("x.tsv", "\t")])
def test_fields_of_tables_are_told_by_their_header(tmp_path: Path, name: str, mark: str):
    (tmp_path / name).write_text(f"q{mark}a{mark}n\none{mark}1{mark}5\n")
    assert Files(path=tmp_path / name, columns=NAMED).unused_columns() == ["n"]
    plain = Files(path=tmp_path / name, columns={"question": "1", "reference": "2"}, header=False)
    assert plain.unused_columns() == []


def test_a_list_longer_than_what_is_looked_at_is_told_by_its_first_rows(tmp_path: Path):
    rows = [*ROWS, *({"q": "long " * 20_000, "a": "3"} for _ in range(30))]
    (tmp_path / "x.json").write_text(json.dumps(rows))
    assert Files(path=tmp_path / "x.json", columns=NAMED).unused_columns() == ["id", "lang", "meta"]
