"""Conversations as ShareGPT writes them are read as any others."""

import json
from pathlib import Path

import polars as pl
import pytest

from orca_plugins.sources.files.kind import Files
from orca_recipes.contract.frames import BESIDE_CONTENT

TURNS = [
    {"from": "system", "value": "Be kind.", "weight": None},
    {"from": "human", "value": "2+2?", "weight": 0},
    {"from": "gpt", "value": "4", "weight": 1},
]
OURS = [
    {"role": "system", "content": "Be kind.", "trained": False, **dict.fromkeys(BESIDE_CONTENT)},
    {"role": "user", "content": "2+2?", "trained": False, **dict.fromkeys(BESIDE_CONTENT)},
    {"role": "assistant", "content": "4", "trained": True, **dict.fromkeys(BESIDE_CONTENT)},
]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.parquet"])
def test_a_conversation_of_sharegpt_has_our_roles(tmp_path: Path, name: str):
    rows = [{"conversations": TURNS}] * 3
    if name.endswith("parquet"):
        pl.DataFrame(rows).write_parquet(tmp_path / name)
    elif name.endswith("jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        (tmp_path / name).write_text(json.dumps(rows))
    source = Files(path=tmp_path / name, columns={"messages": "conversations"})
    (reading,) = [reading for slice in source.slices(slice_bytes=1 << 20) for reading in source.read(slice=slice)]
    assert reading.rows["messages"].to_list() == [OURS] * 3


def test_a_role_that_nobody_knows_is_rejected(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": [{"from": "alien", "value": "x"}]}))
    source = Files(path=tmp_path / "rows.jsonl")
    (reading,) = [reading for slice in source.slices(slice_bytes=1 << 20) for reading in source.read(slice=slice)]
    assert reading.rejected["reason"].to_list() == [
        'messages: the role "alien" is none of system, user, assistant, tool; '
        'roles = { "alien" = "..." } says which it is'
    ]
