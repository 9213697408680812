"""A submix of FLAN-v2, from any of the ways in which it was exported."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orca_plugins.sources.flan.answer_options import options_in
from orca_plugins.sources.flan.kind import Flan
from orca_recipes.contract.kinds import Reading
from orca_recipes.errors import SourceError


def row(question: str, *, source: str = "P3", task: str = "p3_task", template: str | None = "zs_opt") -> dict[str, Any]:
    return {
        "inputs": question,
        "targets": f"{question}!",
        "task_source": source,
        "task_name": task,
        "template_type": template,
    }


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pl.DataFrame(rows).write_parquet(path)
    else:
        data = "".join(json.dumps(each) + "\n" for each in rows).encode()
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def read(source: Flan) -> list[Reading]:
    return [reading for slice in source.slices(slice_bytes=1 << 20) for reading in source.read(slice=slice)]


def questions(source: Flan) -> list[str]:
    return [question for reading in read(source) for question in reading.rows["question"]]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.parquet", "data/deep/rows.parquet"])
def test_an_export_is_read_from_json_lines_and_parquet_at_any_depth(tmp_path, name):
    write(tmp_path / name, [row("a"), row("b", task="other")])
    (reading,) = read(Flan(submix="t0", path=tmp_path))
    assert reading.rows.select("question", "references", "task", "place").rows() == [
        ("a", ["a!"], "p3_task", 1),
        ("b", ["b!"], "other", 2),
    ]


def test_the_older_names_of_the_fields_are_known(tmp_path):
    old = {
        "inputs": [1, 2],
        "inputs_pretokenized": "a",
        "targets_pretokenized": "b",
        "_task_source": "CoT",
        "_task_name": "cot_gsm8k",
        "_template_type": "zs_opt",
    }
    write(tmp_path / "old.jsonl", [old, {**old, "_template_type": "fs_opt"}])
    (reading,) = read(Flan(submix="cot", path=tmp_path / "old.jsonl", templates=("zs",)))
    assert reading.rows.select("question", "references", "task").rows() == [("a", ["b"], "cot_gsm8k")]


def test_rows_of_other_submixes_and_templates_are_passed_over_and_counted(tmp_path):
    kept = [row("a"), row("b", template="zs_noopt"), row("c", template="fs_opt")]
    write(tmp_path / "all.jsonl", [*kept, row("d", source="Flan2021"), row("e", source="CoT")])
    source = Flan(submix="t0", path=tmp_path, templates=("zs_opt", "zs_noopt"))
    (reading,) = read(source)
    assert reading.rows["question"].to_list() == ["a", "b"]
    assert reading.passed_over == {"rows of another submix": 2, "rows of another template type": 1}
    assert questions(Flan(submix="t0", path=tmp_path)) == ["a", "b", "c"]
    assert questions(Flan(submix="t0", path=tmp_path, templates=("fs",))) == ["c"]


def test_a_row_without_a_template_type_is_rejected_where_one_is_needed(tmp_path):
    write(tmp_path / "rows.jsonl", [row("a"), row("b", template=None)])
    (reading,) = read(Flan(submix="t0", path=tmp_path, templates=("zs",)))
    assert reading.rows["question"].to_list() == ["a"]
    assert reading.rejected.rows() == [(2, "template_type: there is none")]


@pytest.mark.parametrize(
    "names",
    [
        ("cot_zs_opt_train.jsonl.gz", "cot_fs_opt_train.jsonl.gz", "flan_zs_noopt_train.jsonl.gz"),
        ("cot_zsopt_data/part.0.parquet", "cot_fsopt_data/part.0.parquet", "flan_zsnoopt_data/part.0.parquet"),
    ],
)
def test_names_of_files_and_folders_tell_submix_and_template(tmp_path, names):
    for number, name in enumerate(names):
        write(tmp_path / name, [{"inputs": f"q{number}", "targets": "a"}])
    assert questions(Flan(submix="cot", path=tmp_path, templates=("zs",))) == ["q0"]
    assert sorted(questions(Flan(submix="cot", path=tmp_path))) == ["q0", "q1"]
    assert questions(Flan(submix="flan2021", path=tmp_path)) == ["q2"]
    with pytest.raises(SourceError, match="no file here is of submix flan2021 with templates zs_opt"):
        Flan(submix="flan2021", path=tmp_path, templates=("zs_opt",)).files()


def test_a_template_column_that_is_missing_is_told_with_what_there_is(tmp_path):
    write(tmp_path / "rows.jsonl", [{"inputs": "a", "targets": "b", "colour": 1}])
    with pytest.raises(
        SourceError, match='no column "_template_type" or "template_type", which `templates` needs; it has'
    ):
        read(Flan(submix="t0", path=tmp_path, templates=("zs",)))
    assert questions(Flan(submix="t0", path=tmp_path)) == ["a"]
    write(tmp_path / "rows.jsonl", [{"question": "a"}])
    with pytest.raises(SourceError, match='no column "inputs" or "inputs_pretokenized"; it has: question'):
        read(Flan(submix="t0", path=tmp_path))


REFUSED = [
    {"submix": "t1"},
    {"templates": ("zs_op",)},
    {"templates": ("",)},
    {"templates": ()},
    {"hub": "a/b"},
    {"path": None},
    {"path": None, "hub": "../x"},
]


@pytest.mark.parametrize("options", REFUSED, ids=str)
def test_options_that_cannot_be_are_refused(tmp_path, options):
    with pytest.raises(ValidationError):
        Flan(**{"submix": "t0", "path": tmp_path, **options})


@pytest.mark.parametrize(
    ("shown", "options"),
    [
        ("Q?\nOPTIONS:\n- yes\n- no", ["yes", "no"]),
        ("Q?\nPick from:\n(A) the first one;\n(B) another;\nAnswer:", ["the first one", "another"]),
        ("Q?\n\nChoices:\n a). 1.5\n b). 2.5\n c). none", ["1.5", "2.5", "none"]),
        ("Available choices:\n[I] x\n[II] y", ["x", "y"]),
        ("options are:\n 1. x\n 2. y\n", ["x", "y"]),
        ("Select from the following.\n*x\n*y", ["x", "y"]),
        ("OPTIONS:\n- a\n- b\nA: b\n\nOPTIONS:\n- c\n- d", ["c", "d"]),
        ("OPTIONS:\n- only one", None),
        ("Here is a list:\n- milk\n- eggs", None),
        ("no options here", None),
        ("OPTIONS:\nyes\nno", None),
    ],
)
def test_options_are_found_by_their_heads_and_marks(shown, options):
    assert options_in(pl.Series([shown])).to_list() == [options]


@given(
    st.lists(st.text(st.characters(whitelist_categories=("L", "N")), min_size=1), min_size=2, max_size=20),
    st.sampled_from(["- ", "({}) ", "[{}]. ", "{}) ", "{}. "]),
)
def test_every_list_of_options_is_read_back(options, mark):
    letters = "ABCDEFGHIJKLMNOPQRST"
    lines = "\n".join(mark.format(letters[place]) + option for place, option in enumerate(options))
    assert options_in(pl.Series(["Q?\nOptions:\n" + lines])).to_list() == [options]


def test_published_sizes_are_known_without_an_export():
    def tasks(submix: str, *templates: str) -> dict[str, int]:
        return dict(Flan(submix=submix, path=Path("nowhere"), templates=templates).declared_tasks() or {})

    assert sum(tasks("cot", "zs_opt").values()) == 149_460
    assert sum(tasks("cot", "zs").values()) == 149_460
    assert sum(tasks("t0", "zs").values()) == 85_739_200
    assert len(tasks("t0", "zs_noopt")) == 193
    assert sum(tasks("flan2021", "zs_opt").values()) == 114_400_460
    assert sum(min(300, rows) for rows in tasks("niv2", "zs_opt").values()) == 451_028
    assert Flan(submix="dialog", path=Path("nowhere"), templates=("zs",)).declared_rows() == 22_548_340
    assert tasks("cot", "fs_opt") == {}


def test_what_is_published_agrees_with_the_facts(shared):
    facts = shared / "facts"
    for submix, name, rows in [
        ("cot", "task_name", "zero_shot_rows"),
        ("t0", "task_name", "zero_shot_rows"),
        ("flan2021", "task_name_field", "zero_shot_rows"),
        ("niv2", "task_name", "number_examples"),
    ]:
        told: dict[str, int] = {}
        for task in json.loads((facts / f"{submix}_tasks.json").read_bytes()):
            if not task.get("mmlu_filtered"):
                told[task[name]] = told.get(task[name], 0) + task[rows]
        assert Flan(submix=submix, path=Path("nowhere"), templates=("zs_opt",)).declared_tasks() == told


def test_an_export_that_is_not_whole_has_no_published_size():
    assert Flan(submix="t0", path=Path("nowhere"), templates=("zs",), whole=False).declared_rows() is None
    assert Flan(submix="t0", path=Path("nowhere")).declared_tasks() is None
