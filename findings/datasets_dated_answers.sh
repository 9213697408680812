#!/usr/bin/env bash
# datasets 5.2.0, pyarrow 26.0.1
# Two JSON Lines files of chats. In one all answers are dates ("1969-07-20"), in the other one is, beside other texts.
# One would guess: a JSON string stays the string it is, whatever its file holds besides; at least where `features` say that
#   the column is of strings. And the order of files is free.
# What happens: types are guessed file by file. Alone, the file of dates yields datetime objects, inside `messages` too.
#   After the other file, its answers are texts again but not the same: "1969-07-20 00:00:00", beside "1969-07-20" from the
#   first. Before the other file, the reading stops with an error. With `features` of strings it goes on, and every answer of
#   the file of dates gets a time of day all the same. Streamed or not, it is the same.
# Why it matters for instruction-tuning data: a shard of short answers (dates of events, tasks on calendars) teaches answers
#   that nobody wrote, and an exact match with the reference fails. Parse the lines yourself and hand over the rows.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q datasets==5.2.0 pyarrow==26.0.1
HF_HOME="$folder/home" HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1 venv/bin/python -I - <<'PY'
import datetime
import json
import sys
from importlib.metadata import version

import datasets

print("datasets", version("datasets"), "pyarrow", version("pyarrow"))
DATE = "1969-07-20"
files = {"dates.jsonl": [DATE, "1989-11-09"], "mixed.jsonl": ["Armstrong", DATE]}
for name, answers in files.items():
    with open(name, "w") as lines:
        for answer in answers:
            lines.write(json.dumps({"messages": [{"role": "assistant", "content": answer}]}) + "\n")
text = datasets.Value("string")
chat = datasets.Features({"messages": datasets.List({"role": text, "content": text})})


def read(names, streaming, features=None):
    try:
        rows = datasets.load_dataset(
            "json", data_files=names, split="train", streaming=streaming, features=features
        )
        return [row["messages"][0]["content"] for row in rows]
    except Exception as error:
        return type(error).__name__


dates, mixed = files
for streaming in (True, False):
    alone, after, before = (read(names, streaming) for names in ([dates], [mixed, dates], [dates, mixed]))
    print(f"streaming={streaming}\n  dates alone: {alone[0]!r}\n  mixed, dates: {after}\n  dates, mixed: {before}")
    if not isinstance(alone[0], datetime.datetime):
        sys.exit("No longer so: a file of dates alone is not retyped.")
    if after[1:3] != [DATE, DATE + " 00:00:00"]:
        sys.exit("No longer so: one date is not two texts.")
    if not isinstance(before, str):
        sys.exit("No longer so: the order of the files does not matter.")
    declared = read([dates, mixed], streaming, chat)
    print(f"  dates, mixed, features of strings: {declared}")
    if [declared[0], declared[3]] != [DATE + " 00:00:00", DATE]:
        sys.exit("No longer so: features of strings keep the text as written.")
print("SEEN: one date is a datetime, two texts or an error, by the files beside it; features of strings do not help")
PY
