"""The reasoning_gym source: generated tasks that are the same in every process."""

import json
import os
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from orca_plugins.sources import reasoning_gym as module
from orca_plugins.sources.reasoning_gym import ReasoningGym
from orca_recipes.errors import PluginError, SourceError

FAMILIES = tomllib.loads((files("orca_plugins.sources") / "reasoning_gym_families.toml").read_text("utf-8"))
# One item of these costs from a tenth of a second to seconds.
SLOW = {"arc_agi", "futoshiki", "group_anagrams", "puzzle24", "sokoban", "zebra_puzzles"}

# Reads every family it is told of and prints a digest of each: what a test compares between processes.
DIGESTS = """
import hashlib, json, random, sys
import numpy as np
from orca_plugins.sources.reasoning_gym import ReasoningGym
random.seed(int(sys.argv[2])); np.random.seed(int(sys.argv[2]))
source = ReasoningGym(tasks=tuple(json.loads(sys.argv[1])), rows_per_task=5, seed=3)
found = {}
for slice in source.slices(slice_bytes=5 * 1024):
    for reading in source.read(slice=slice):
        content = reading.rows.write_json() + reading.rejected.write_json()
        found[source.tasks[slice.start // 5]] = hashlib.sha256(content.encode()).hexdigest()
print(json.dumps(found))
"""


def gym(*tasks: str, rows_per_task: int = 20, **options: Any) -> ReasoningGym:
    pytest.importorskip("reasoning_gym", reason="needs orca-recipes[reasoning-gym]")
    return ReasoningGym(tasks=tasks, rows_per_task=rows_per_task, **options)


def read(source: ReasoningGym, slice_bytes: int = 1 << 20) -> tuple[pl.DataFrame, pl.DataFrame]:
    readings = [one for slice in source.slices(slice_bytes=slice_bytes) for one in source.read(slice=slice)]
    return pl.concat([one.rows for one in readings]), pl.concat([one.rejected for one in readings])


def allowed() -> list[str]:
    factory = pytest.importorskip("reasoning_gym.factory", reason="needs orca-recipes[reasoning-gym]")
    return sorted(set(factory.DATASETS) - set(FAMILIES["refused"]))


def test_an_item_is_a_question_and_its_answer_with_its_family_and_number() -> None:
    rows, rejected = read(gym("gcd", "chain_sum", rows_per_task=3))
    assert rejected.is_empty()
    assert rows["id"].to_list() == ["gcd/0", "gcd/1", "gcd/2", "chain_sum/0", "chain_sum/1", "chain_sum/2"]
    assert rows["task"].to_list() == ["gcd"] * 3 + ["chain_sum"] * 3
    assert rows["place"].to_list() == [1, 2, 3, 4, 5, 6]
    assert rows["question"].str.contains("Greatest Common Divisor").to_list() == [True] * 3 + [False] * 3
    assert rows["references"].list.len().to_list() == [1] * 6


def test_the_answer_is_right() -> None:
    rows, _ = read(gym("chain_sum"))
    sums = rows["question"].str.extract(r": (.*) =$")
    assert [str(eval(text)) for text in sums] == rows["references"].list.first().to_list()


def test_neighbouring_seeds_share_no_question() -> None:
    questions = [set(read(gym("number_sorting", rows_per_task=200, seed=seed))[0]["question"]) for seed in (1, 2)]
    assert len(questions[0]) > 190
    assert not questions[0] & questions[1]


def test_more_rows_leave_the_first_ones_as_they_are() -> None:
    few, many = (read(gym("gcd", rows_per_task=rows))[0] for rows in (5, 50))
    assert many.head(5).equals(few)


def test_a_family_gives_the_same_items_beside_others() -> None:
    alone = read(gym("lcm"))[0].drop("place")
    beside = read(gym("gcd", "lcm"))[0].drop("place")
    assert beside.tail(20).equals(alone)


@pytest.mark.parametrize("items", [1, 7, 20, 33])
def test_any_cut_gives_the_same_rows_and_places(items: int) -> None:
    source = gym("gcd", "ab", "word_sorting")
    assert read(source, slice_bytes=items * 1024)[0].equals(read(source)[0])


def test_what_a_family_prints_is_not_ours(capsys: pytest.CaptureFixture[str]) -> None:
    read(gym("ab"))
    assert capsys.readouterr().out == ""


def test_options_of_a_family_reach_it() -> None:
    rows, _ = read(gym("chain_sum", options={"chain_sum": {"min_terms": 2, "max_terms": 2, "max_digits": 1}}))
    assert rows["question"].str.contains(r": \d [+-] \d =$").all()


def test_an_item_without_an_answer_is_rejected_with_its_place() -> None:
    rows, rejected = read(gym("ab", rows_per_task=400))
    assert set(rejected["reason"]) == {"answer: empty"}
    assert sorted([*rows["place"], *rejected["place"]]) == list(range(1, 401))


def test_an_item_whose_generator_fails_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    source = gym("gcd", rows_per_task=3)
    dataset = pytest.importorskip("reasoning_gym.arithmetic.gcd").GCDDataset
    monkeypatch.setattr(dataset, "__getitem__", lambda self, index: {}["nothing"])
    rows, rejected = read(source)
    assert rows.is_empty()
    assert rejected.rows() == [(place, "the generator failed: KeyError") for place in (1, 2, 3)]


@pytest.mark.parametrize("family", sorted(FAMILIES["refused"]))
def test_a_family_that_cannot_be_trained_on_is_refused_by_name(family: str) -> None:
    with pytest.raises(ValidationError) as raised:
        ReasoningGym(tasks=("gcd", family), rows_per_task=1)
    assert f'reasoning-gym\'s "{family}" cannot be used: {FAMILIES["refused"][family]}' in str(raised.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tasks": ("gcd", "gcd")}, "names a family twice"),
        ({"options": {"lcm": {}}}, '"lcm", which is not in tasks'),
        ({"options": {"gcd": {"seed": 1}}}, "options.gcd.seed is set by this source"),
        ({"options": {"gcd": {"size": 1}}}, "options.gcd.size is set by this source"),
    ],
)
def test_options_that_contradict_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        ReasoningGym(**{"tasks": ("gcd",), "rows_per_task": 1, **options})


def test_an_unknown_family_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(SourceError, match='no family "chainsum"; did you mean "chain_sum"'):
        read(gym("chainsum"))


def test_an_unknown_option_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(SourceError, match='"chain_sum" has no option "max_term"; did you mean "max_terms"'):
        read(gym("chain_sum", options={"chain_sum": {"max_term": 3}}))


def test_an_option_that_the_family_refuses_is_a_sentence() -> None:
    with pytest.raises(SourceError, match='"chain_sum" refuses its options: max_terms must be >= min_terms'):
        read(gym("chain_sum", options={"chain_sum": {"max_terms": 1}}))


def test_the_lock_pins_the_versions_of_what_writes_the_items() -> None:
    assert gym("gcd").pins() == {"reasoning-gym": version("reasoning-gym")}
    pins = gym("knights_knaves", "simple_equations").pins()
    assert pins == {name: version(name) for name in ("reasoning-gym", "numpy", "sympy")}


def test_the_missing_package_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    for name in ("reasoning_gym", "reasoning_gym.factory"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(module, "version", missing)
    source = ReasoningGym(tasks=("gcd",), rows_per_task=1)
    for use in (lambda: read(source), source.pins):
        with pytest.raises(PluginError, match=r"pip install 'orca-recipes\[reasoning-gym\]'"):
            use()


def test_a_recipe_can_be_checked_without_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    source = ReasoningGym(tasks=("gcd", "lcm"), rows_per_task=1500)
    assert source.declared_rows() == 3000
    assert [(one.start, one.stop, one.first_place) for one in source.slices(slice_bytes=1 << 30)] == [
        (0, 1000, 1),
        (1000, 2000, 1001),
        (2000, 3000, 2001),
    ]


def test_the_table_names_families_that_there_are() -> None:
    there = {*allowed(), *FAMILIES["refused"]}
    tables = [FAMILIES["slow_to_construct"]["families"], *FAMILIES["written_with"].values()]
    assert {name for table in tables for name in table} <= there


@pytest.mark.slow
def test_every_allowed_family_is_the_same_in_every_process(tmp_path: Path) -> None:
    families = json.dumps([family for family in allowed() if family not in SLOW])
    digests = []
    for hash_seed in ("1", "777"):
        done = subprocess.run(
            [sys.executable, "-c", DIGESTS, families, hash_seed],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        digests.append(json.loads(done.stdout))
    assert len(digests[0]) > 70
    assert digests[0] == digests[1]


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the package that arc_agi reads leaves files open
@pytest.mark.parametrize("family", FAMILIES["slow_to_construct"]["families"])
def test_a_family_constructed_once_gives_what_it_gives_constructed_anew(family: str) -> None:
    factory = pytest.importorskip("reasoning_gym.factory", reason="needs orca-recipes[reasoning-gym]")
    make = module._maker(family, {})
    for seed in (2**64 - 1, 5, 11, 5):
        anew = factory.create_dataset(family, seed=seed, size=1)[0]
        again = make(seed)
        assert (again["question"], again["answer"]) == (anew["question"], anew["answer"])
