"""A curriculum says in exact rows what each phase is trained on, for any trainer."""

import io
import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.errors import DamagedShard
from orca_recipes.shards.checks.verify import verify
from orca_recipes.shards.curriculum import (
    AskedPhase,
    Curriculum,
    DatasetSize,
    compiled_curriculum,
    phase_rows,
    read_curriculum,
    write_curriculum,
)
from orca_recipes.shards.manifest import read_manifest
from orca_recipes.shards.show.show import show

SIZES = {"a": DatasetSize(10, 1000, 600), "b": DatasetSize(5, 400, 100), "c": DatasetSize(1, 7, 3)}


def phase(datasets: Mapping[str, str | None], *, epochs: int | None = None, tokens: int | None = None) -> AskedPhase:
    return AskedPhase(datasets=datasets, epochs=epochs, tokens=tokens, training={})


def test_epochs_of_one_dataset_go_through_all_its_rows_each_time():
    (told,) = compiled_curriculum([phase({"a": None}, epochs=4)], SIZES).phases
    assert told.rows == {"a": 40}
    assert (told.seen_tokens, told.seen_trained_tokens) == (4000, 2400)


def test_several_whole_datasets_are_gone_through_equally_often():
    (told,) = compiled_curriculum([phase({"a": None, "b": None, "c": None}, epochs=3)], SIZES).phases
    assert told.rows == {"a": 30, "b": 15, "c": 3}
    assert told.seen_trained_tokens == 3 * (600 + 100 + 3)


def test_weights_deal_the_rows_of_a_phase():
    (told,) = compiled_curriculum([phase({"a": "0.5", "b": "0.5"}, epochs=2)], SIZES).phases
    assert told.rows == {"a": 15, "b": 15}
    assert told.seen_tokens == 1500 + 1200


def test_a_phase_that_goes_by_tokens_ends_at_the_first_row_that_reaches_them():
    assert phase_rows({"a": "1"}, epochs=None, tokens=250, sizes=SIZES) == {"a": 3}
    assert phase_rows({"a": "1"}, epochs=None, tokens=300, sizes=SIZES) == {"a": 3}
    assert phase_rows({"a": "1", "b": "1"}, epochs=None, tokens=1800, sizes=SIZES) == {"a": 10, "b": 10}


def test_phases_follow_each_other_without_a_gap():
    phases = compiled_curriculum(
        [phase({"a": None}, epochs=1), phase({"b": None}, tokens=81), phase({"c": None}, epochs=2)], SIZES
    ).phases
    assert [told.first_row for told in phases] == [0, 10, 12]


@given(
    st.dictionaries(st.sampled_from("abc"), st.decimals("0.001", "9999", places=3), min_size=1),
    st.one_of(st.tuples(st.integers(1, 50), st.none()), st.tuples(st.none(), st.integers(1, 10**7))),
)
def test_rows_are_whole_and_within_one_of_their_exact_share(weights, length):
    epochs, tokens = length
    told = {name: format(weight, "f") for name, weight in weights.items()}
    rows = phase_rows(told, epochs=epochs, tokens=tokens, sizes=SIZES)
    total, whole = sum(rows.values()), sum(weights.values())
    assert all(abs(rows[name] - total * weights[name] / whole) < 1 for name in rows)
    if epochs:
        assert total == epochs * sum(SIZES[name].rows for name in rows)
    else:
        mean = float(sum(weights[name] * SIZES[name].tokens / SIZES[name].rows for name in rows) / whole)
        assert total * mean >= tokens * (1 - 1e-9)
        assert (total - 1) * mean < tokens
    assert rows == phase_rows(dict(reversed(told.items())), epochs=epochs, tokens=tokens, sizes=SIZES)


def test_a_curriculum_is_read_as_it_was_written(tmp_path):
    told = compiled_curriculum([phase({"a": "0.25", "b": "0.75"}, epochs=4), phase({"c": None}, tokens=9)], SIZES)
    write_curriculum(tmp_path, told)
    assert read_curriculum(tmp_path) == told
    assert json.loads((tmp_path / "curriculum.json").read_bytes())["phases"][1] == {
        "datasets": {"c": "1"},
        "epochs": None,
        "tokens": 9,
        "rows": {"c": 2},
        "first_row": 60,
        "seen_tokens": 14,
        "seen_trained_tokens": 6,
        "training": {},
    }


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"epochs": None},
        {"tokens": 5},
        {"datasets": {}},
        {"datasets": {"a": "0.0"}},
        {"datasets": {"a": "1e999999999"}},
        {"datasets": {"a": "NaN"}},
        {"rows": {"b": 1}},
        {"rows": {"a": -1}},
        {"more": 1},
    ],
)
def test_a_damaged_curriculum_is_refused_in_a_sentence(tmp_path, change):
    (good,) = compiled_curriculum([phase({"a": None}, epochs=1)], SIZES).phases
    told = {"phases": [{**good.model_dump(mode="json"), **change}]}
    (tmp_path / "curriculum.json").write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(DamagedShard, match=r"curriculum\.json: it is no curriculum"):
        read_curriculum(tmp_path)


@pytest.mark.parametrize("data", [b"", b"{", b'{"phase": []}'])
def test_a_file_that_is_no_curriculum_is_refused_in_a_sentence(tmp_path, data):
    (tmp_path / "curriculum.json").write_bytes(data)
    with pytest.raises(DamagedShard, match=r"curriculum\.json: it is no curriculum"):
        read_curriculum(tmp_path)


def test_a_build_says_what_each_phase_sees(build):
    out = io.StringIO()
    show(build, out=out)
    head, told = out.getvalue().split("\n\n", 1)
    assert head == f"build tiny: format 2, data {read_manifest(build).data_digest}"
    assert told.startswith("phase 1 (2 epochs): 6 rows of main; ")


def test_a_curriculum_of_a_dataset_that_is_not_there_is_found(build, reseal):
    write_curriculum(build, compiled_curriculum([phase({"a": None}, epochs=1)], SIZES))
    reseal(build)
    (found,) = verify(build).findings
    assert str(found) == 'curriculum.json: it names dataset "a", which the build does not hold'


def test_a_curriculum_whose_rows_do_not_follow_from_its_datasets_is_found(build, reseal):
    (told,) = read_curriculum(build).phases
    write_curriculum(build, Curriculum(phases=(told.model_copy(update={"rows": {"main": 7}}),)))
    reseal(build)
    (found,) = verify(build).findings
    assert str(found).startswith("curriculum.json: phase 1 takes the rows main 7 from row 0 on")
    assert "where its datasets give main 6 from row 0 on" in str(found)
