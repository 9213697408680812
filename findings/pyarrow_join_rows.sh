#!/usr/bin/env bash
# pyarrow 26.0.1
# A question is made of two columns (instruction, input) by pyarrow.compute.binary_join_element_wise, with
#   null_handling="skip", so that a missing input leaves no separator behind. In one row both columns are null.
# One would guess: that row is "" or null. The function is element-wise: as many values come out as went in.
# What happens: the row is left out. The result is shorter than the columns, and every later text moves up by one.
#   With "emit_null" and "replace" all rows are there.
# Why it matters for instruction-tuning data: the shorter column beside the answers pairs each later question with the
#   answer of another. Where the lengths are compared it is an error; where the column is written by itself it is silent.
#   Put "" in one of the columns of rows that have nothing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q pyarrow==26.0.1
venv/bin/python -I - <<'PY'
import sys

import pyarrow as pa
import pyarrow.compute as pc

print("pyarrow", pa.__version__)
instruction = pa.array(["Translate", None, "Name a colour"])
given = pa.array(["good morning", None, None])
for handling in ("emit_null", "replace", "skip"):
    joined = pc.binary_join_element_wise(instruction, given, "\n", null_handling=handling)
    print(f"{handling:10} {len(joined)} of {len(instruction)} rows: {joined.to_pylist()}")
if len(joined) == len(instruction):
    sys.exit("No longer so: a row of nulls alone keeps its place.")
print("SEEN: an element-wise join gives fewer rows than it was given")
PY
