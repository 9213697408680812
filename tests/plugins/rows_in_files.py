"""Rows as files of each format hold them, and how the source `files` reads them."""

import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orca_plugins.sources.files.kind import Files

FORMATS = ["rows.jsonl", "rows.json", "rows.parquet"]


def content(rows: list[Any], name: str, **style: Any) -> bytes:
    """The rows in a format, or in JSON lines of a style."""
    if name.endswith("jsonl"):
        return "".join(json.dumps(row, **style) + "\n" for row in rows).encode()
    if name.endswith("json"):
        return json.dumps(rows).encode()
    sink = io.BytesIO()
    columns = dict.fromkeys(column for row in rows for column in row)
    pq.write_table(pa.table({column: [row.get(column) for row in rows] for column in columns}), sink)
    return sink.getvalue()


def read(rows: list[Any], name: str = "rows.jsonl", *, style: dict[str, Any] | None = None, **options: Any):
    """Rows and rejections of these rows in a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content(rows, name, **(style or {})))
        source = Files(path=path, **options)
        readings = [reading for piece in source.slices(slice_bytes=1 << 30) for reading in source.read(slice=piece)]
    kept = [row for reading in readings for row in reading.rows.to_dicts()]
    return kept, [row for reading in readings for row in reading.rejected.rows()]
