#!/usr/bin/env bash
# pyarrow 26.0.1, datasets 5.2.0
# Rows of JSON lines have ids of 64 bits, as hashes and snowflakes are: 12345678901234567890 and ...891.
# One would guess: a reader with typed columns reads them as uint64, or refuses what int64 cannot hold.
# What happens: pyarrow.json infers float64 for the column, without a word, and both ids become the same number; so do they
#   through datasets' loader of JSON, which reads by pyarrow. With the type named (uint64) pyarrow reads them exactly.
#   Smaller ids (below 2**63) in the same column lose their last digits too.
# Why it matters for instruction-tuning data: joins, hold-outs and duplicates by id take different rows for one, and answers
#   are put to questions of others. Ids of that size have to be texts, or their type has to be named.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q pyarrow==26.0.1 datasets==5.2.0
HF_HOME="$folder/hf" HF_HUB_OFFLINE=1 venv/bin/python -I - <<'PY'
import sys
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.json

ids = [12345678901234567890, 12345678901234567891, 9007199254740993]
Path("rows.jsonl").write_text("".join(f'{{"id": {number}}}\n' for number in ids))
print("pyarrow", pa.__version__, "datasets", datasets.__version__)
inferred = pyarrow.json.read_json("rows.jsonl")["id"]
named = pyarrow.json.read_json(
    "rows.jsonl", parse_options=pyarrow.json.ParseOptions(explicit_schema=pa.schema([("id", pa.uint64())]))
)["id"]
datasets.disable_progress_bars()
loaded = datasets.load_dataset("json", data_files="rows.jsonl", split="train", cache_dir="cache")["id"]
print(f"written:  {ids}\ninferred: {inferred.type} {inferred.to_pylist()}\nnamed:    {named.type} {named.to_pylist()}")
print(f"datasets: {list(loaded)}")
if len(set(inferred.to_pylist())) != 2 or named.to_pylist() != ids or len(set(loaded)) != 2:
    sys.exit("No longer so.")
print("SEEN: three ids were written, two are read")
PY
