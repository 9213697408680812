"""Which parts of conversations are tokenized at once."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.run.tokens import tokenize
from orca_recipes.run.tokens.tokenize import together
from orca_recipes.store.stage_folder import Part
from tests.run.chats import built, recipe_of


class Sized(Part):
    """A part whose file says that it has so many bytes."""

    def bytes(self, suffix: str) -> int:
        return int(self.report["bytes"])


def parts(sizes: list[int]) -> list[Part]:
    return [Sized(f"part-{place}", Path(), {"bytes": size}) for place, size in enumerate(sizes)]


def test_small_parts_of_a_large_collection_are_tokenized_together():
    groups = together(parts([8 << 20] * 60))
    assert {len(group) for group in groups} == {4}


def test_a_small_collection_is_cut_into_a_group_for_each_of_some_workers():
    assert [len(group) for group in together(parts([8 << 20] * 8))] == [1] * 8


def test_no_parts_make_no_groups():
    assert together([]) == []


@given(sizes=st.lists(st.integers(0, 50), min_size=1, max_size=40))
def test_groups_hold_all_parts_in_their_order_and_are_of_bounded_size(sizes: list[int]):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenize, "GROUP_BYTES", 100)
        found = together(parts(sizes))
    assert [part.name for group in found for part in group] == [f"part-{place}" for place in range(len(sizes))]
    assert all(sum(part.report["bytes"] for part in group) <= 100 + 50 for group in found)


def test_what_is_tokenized_together_changes_no_byte_of_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    chats = [
        {"role": role, "content": f"{role} {number % 7} " * (1 + number % 3)}
        for number in range(400)
        for role in ("system", "user", "assistant")
    ]
    lines = [json.dumps({"messages": chats[at : at + 3]}) for at in range(0, len(chats), 3)]
    recipe = recipe_of(tmp_path, lines)
    monkeypatch.setattr("orca_recipes.run.examples.read.SLICE_BYTES", 4000)
    counts, files = [], []
    for fewest in (1, 4, 1000):
        monkeypatch.setattr(tokenize, "FEWEST_GROUPS", fewest)
        store, out = tmp_path / f"store-{fewest}", tmp_path / f"out-{fewest}"
        built(recipe, store=store, out=out)
        counts.append(len(list(store.glob("stages/tokenize-*/*.idx"))))
        files.append({path.name: path.read_bytes() for path in (out / "main").iterdir()})
    assert counts[0] == 1 < counts[1] < counts[2]
    assert files[0] == files[1] == files[2]
