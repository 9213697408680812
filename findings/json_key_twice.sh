#!/usr/bin/env bash
# polars 2.1.0, pyarrow 26.0.1, Python's json
# A line of JSON lines names a key twice, as exports do that merge two sources of a row: {"answer": "4", "answer": "5"}.
# One would guess: readers agree on one of the two, as RFC 8259 calls the last one common practice; or they all refuse.
# What happens: each does something else. Python's json takes the last, polars' read_ndjson the first, without a word, and
#   pyarrow.json refuses the whole file.
# Why it matters for instruction-tuning data: a file that was checked with Python is trained on other answers once it is
#   read by columns. Look for such lines, and say which one is meant, before any reader chooses.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q polars==2.1.0 pyarrow==26.0.1
venv/bin/python -I - <<'PY'
import json
import sys
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.json

Path("rows.jsonl").write_text('{"question": "2 + 2?", "answer": "4", "answer": "5"}\n')
print(f"polars {pl.__version__}, pyarrow {pa.__version__}, Python {sys.version.split()[0]}")
of_python = json.loads(Path("rows.jsonl").read_text())["answer"]
of_polars = pl.read_ndjson("rows.jsonl")["answer"][0]
try:
    of_pyarrow = pyarrow.json.read_json("rows.jsonl")["answer"][0].as_py()
except pa.ArrowInvalid as error:
    of_pyarrow = f"refused: {error}"
print(f"json: {of_python}\npolars: {of_polars}\npyarrow: {of_pyarrow}")
if (of_python, of_polars) != ("5", "4") or not of_pyarrow.startswith("refused"):
    sys.exit("No longer so.")
print("SEEN: three readers, three answers to one line")
PY
