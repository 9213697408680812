"""The niv2 source: folders of Natural Instructions v2 tasks in their original layout."""

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from orca_plugins.sources.niv2.kind import Niv2
from orca_plugins.sources.niv2.task_file import read_instances
from orca_recipes.errors import SourceError

INSTANCE = {"id": "task1-a", "input": "Andorra", "output": ["020"]}


def task(**fields: Any) -> dict[str, Any]:
    return {
        "Categories": ["Misc.", "Other"],
        "Definition": ["Give the code of the country.", "A second wording."],
        "Positive Examples": [
            {"input": "Angola", "output": "024", "explanation": "It is."},
            {"input": "Iran", "output": ["364"], "explanation": "It is."},
        ],
        "Instances": [INSTANCE],
        **fields,
    }


def written(folder: Path, name: str = "task1_codes.json", **fields: Any) -> Path:
    folder.mkdir(exist_ok=True)
    content = json.dumps(task(**fields)).encode()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder


def read(source: Niv2) -> tuple[pl.DataFrame, pl.DataFrame]:
    readings = [reading for slice in source.slices(slice_bytes=1) for reading in source.read(slice=slice)]
    return pl.concat([one.rows for one in readings]), pl.concat([one.rejected for one in readings])


def test_a_question_is_the_definition_and_the_instance(tmp_path: Path) -> None:
    rows, _ = read(Niv2(path=written(tmp_path)))
    assert rows["question"].to_list() == [
        "Definition: Give the code of the country.\n\nNow complete the following example -\nInput: Andorra\nOutput:"
    ]


def test_positive_examples_stand_before_the_instance_and_are_fewer_where_there_are_fewer(tmp_path: Path) -> None:
    rows, _ = read(Niv2(path=written(tmp_path), positive_examples=5))
    assert rows["question"].to_list() == [
        "Definition: Give the code of the country.\n\n"
        "Positive Example 1 -\nInput: Angola\nOutput: 024\n\n"
        "Positive Example 2 -\nInput: Iran\nOutput: 364\n\n"
        "Now complete the following example -\nInput: Andorra\nOutput:"
    ]


def test_as_many_positive_examples_are_shown_as_asked_for(tmp_path: Path) -> None:
    rows, _ = read(Niv2(path=written(tmp_path), positive_examples=1))
    assert "Positive Example 1" in rows["question"][0]
    assert "Positive Example 2" not in rows["question"][0]


def test_braces_in_the_data_are_text(tmp_path: Path) -> None:
    shown = [{"input": "{number}", "output": "{0}"}]
    folder = written(tmp_path, Definition=["Fill {definition}."], **{"Positive Examples": shown})
    question = read(Niv2(path=folder, positive_examples=1))[0]["question"][0]
    assert "Fill {definition}." in question
    assert "Input: {number}\nOutput: {0}" in question


def test_a_row_brings_all_its_outputs_its_id_task_category_and_place(tmp_path: Path) -> None:
    instances = [INSTANCE, {"id": "task1-b", "input": "Iran", "output": ["364", " 0364 "]}]
    rows, rejected = read(Niv2(path=written(tmp_path, Instances=instances)))
    assert rejected.is_empty()
    assert rows["references"].to_list() == [["020"], ["364", " 0364 "]]
    assert rows["id"].to_list() == ["task1-a", "task1-b"]
    assert set(rows["task"]) == {"task1_codes"}
    assert set(rows["category"]) == {"Misc."}
    assert rows["place"].to_list() == [1, 2]


def test_a_single_text_is_one_output_and_one_definition(tmp_path: Path) -> None:
    folder = written(tmp_path, Definition="Say it.", Instances=[{**INSTANCE, "output": "020"}])
    rows, _ = read(Niv2(path=folder))
    assert rows["references"].to_list() == [["020"]]
    assert rows["question"][0].startswith("Definition: Say it.\n\n")


def test_a_task_without_categories_has_none(tmp_path: Path) -> None:
    rows, _ = read(Niv2(path=written(tmp_path, Categories=[])))
    assert rows["category"].to_list() == [None]


@pytest.mark.parametrize(
    ("instance", "reason"),
    [
        ("a text", "not an object"),
        (None, "not an object"),
        ([], "not an object"),
        ({"id": "i", "output": ["y"]}, "input: missing"),
        ({"id": "i", "input": "x"}, "output: missing"),
        ({**INSTANCE, "id": 7.5}, "id: not a text"),
        ({**INSTANCE, "id": " "}, "id: empty"),
        ({**INSTANCE, "input": ["x"]}, "input: not a text"),
        ({**INSTANCE, "output": True}, "output: not a text"),
        ({**INSTANCE, "output": {"a": "b"}}, "output: not a text"),
        ({**INSTANCE, "output": ["y", None]}, "output: not a text"),
        ({**INSTANCE, "output": ["y", 7.5]}, "output: not a text"),
        ({**INSTANCE, "output": []}, "output: empty"),
        ({**INSTANCE, "output": ["", " \n"]}, "output: empty"),
        ({**INSTANCE, "output": ""}, "output: empty"),
        ({**INSTANCE, "input": "\ud83d"}, "input: holds half a surrogate pair"),
    ],
)
def test_a_bad_instance_is_rejected_with_its_place_and_reason(tmp_path: Path, instance: Any, reason: str) -> None:
    rows, rejected = read(Niv2(path=written(tmp_path, Instances=[INSTANCE, instance, INSTANCE])))
    assert rows["place"].to_list() == [1, 3]
    assert rejected.rows() == [(2, reason)]


def test_files_of_the_old_schema_have_no_ids_and_whole_numbers_are_texts(tmp_path: Path) -> None:
    old = {"input": 3, "output": 7}
    rows, rejected = read(Niv2(path=written(tmp_path, Instances=[old, {**INSTANCE, "id": 5, "output": ["y", 8]}])))
    assert rows["id"].to_list() == [None, "5"]
    assert rows["references"].to_list() == [["7"], ["y", "8"]]
    assert "Input: 3\n" in rows["question"][0]
    assert rejected.height == 0


def test_an_empty_output_beside_others_is_left_out_and_counted(tmp_path: Path) -> None:
    source = Niv2(path=written(tmp_path, Instances=[{**INSTANCE, "output": ["", "y", " "]}, INSTANCE]))
    (reading,) = [one for piece in source.slices(slice_bytes=1) for one in source.read(slice=piece)]
    assert reading.rows["references"].to_list()[0] == ["y"]
    assert reading.passed_over == {"output: an empty one beside others": 2}


def test_folders_with_a_training_file_each_are_tasks(tmp_path: Path) -> None:
    for name in ("task2_b", "task1_a"):
        written(tmp_path / name, "train.json")
        (tmp_path / name / "test.json").write_text("no task")
    rows, _ = read(Niv2(path=tmp_path))
    assert rows["task"].unique(maintain_order=True).to_list() == ["task1_a", "task2_b"]
    assert [file.name for file in Niv2(path=tmp_path).files()] == ["task1_a/train.json", "task2_b/train.json"]
    assert [file.name for file in Niv2(path=tmp_path / "task1_a" / "train.json").files()] == ["task1_a/train.json"]


def test_one_cut_file_does_not_stop_the_others_where_bad_rows_are_let_go(tmp_path: Path) -> None:
    whole = written(tmp_path) / "task1_codes.json"
    (tmp_path / "task000_cut.json").write_bytes(whole.read_bytes()[:40])
    with pytest.raises(SourceError, match=r"task000_cut\.json:1: is not JSON"):
        read(Niv2(path=tmp_path))
    rows, rejected = read(Niv2(path=tmp_path, on_bad_row="reject"))
    assert rows.height
    assert [(place, "task000_cut.json:1: is not JSON" in why) for place, why in rejected.rows()] == [(1, True)]


def test_a_field_given_twice_rejects_its_instance(tmp_path: Path) -> None:
    folder = written(tmp_path)
    text = json.dumps(task()).replace('"input": "Andorra"', '"input": "Andorra", "input": "Iran"')
    (folder / "task1_codes.json").write_text(text)
    assert read(Niv2(path=folder))[1].rows() == [(1, "input: given twice")]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just("\udc00"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=1), inner, max_size=2),
    max_leaves=4,
)
instances = json_values | st.fixed_dictionaries(
    {}, optional={"id": json_values, "input": json_values, "output": json_values}
)


@given(st.lists(instances, max_size=6))
@example([None, {"output": [None]}])
def test_an_instance_is_read_or_rejected_for_itself_whatever_stands_beside_it(drawn: list[Any]) -> None:
    rows, rejected, _ = read_instances(drawn, first_place=1)
    assert sorted([*rows["place"], *rejected["place"]]) == list(range(1, len(drawn) + 1))
    for place, instance in enumerate(drawn, start=1):
        alone, bad, _ = read_instances([instance], first_place=place)
        assert alone.equals(rows.filter(pl.col("place") == place))
        assert bad.equals(rejected.filter(pl.col("place") == place))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"Definition": ["x"]', "task1_codes.json:1: is not JSON"),
        (b'{"Definition": ["x\xff"], "Instances": []}', "task1_codes.json: is not UTF-8 (byte 18)"),
        (b'{"Instances": []}', 'task1_codes.json: field "Definition" is missing'),
        (b'{"Definition": [], "Instances": []}', 'task1_codes.json: field "Definition" is missing'),
        (b'{"Definition": ["x"]}', 'task1_codes.json: field "Instances" is missing'),
        (b'{"Definition": 3, "Instances": []}', 'field "Definition" must be a list of texts'),
        (b'{"Definition": [3], "Instances": []}', 'field "Definition": not a text'),
        (b'{"Definition": ["x"], "Instances": {}}', 'field "Instances" must be a list'),
        (b'{"Definition": ["x"], "Instances": [], "Instances": []}', 'field "Instances" is given twice'),
        (b'{"Definition": ["x"], "Instances": [], "Categories": 3}', 'field "Categories" must be a list of texts'),
        (b'{"Definition": ["x"], "Instances": [], "Positive Examples": 3}', 'field "Positive Examples" must be a list'),
        (b'{"Definition": ["x"], "Instances": [], "Positive Examples": [3]}', 'field "Positive Examples"[0] must be'),
        (b'{"Definition": ["x"], "Instances": [], "Positive Examples": [{}]}', "[0].input: not a text"),
        (b"[]", "is not a task file"),
        (b"[" * 100_000, "nested too deep"),
        (b"1" * 10_000, "is not a task file"),
        (b"", "is not JSON"),
    ],
)
def test_a_bad_task_file_is_named_with_the_field(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "task1_codes.json").write_bytes(content)
    with pytest.raises(SourceError) as raised:
        read(Niv2(path=tmp_path, positive_examples=1))
    assert sentence in str(raised.value)
    assert str(raised.value).startswith("task1_codes.json:")


def test_a_byte_order_mark_is_taken_off(tmp_path: Path) -> None:
    (tmp_path / "task1_codes.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(task()).encode())
    assert len(read(Niv2(path=tmp_path))[0]) == 1


def test_a_gzipped_task_gives_the_same_rows(tmp_path: Path) -> None:
    plain, packed = written(tmp_path / "a"), written(tmp_path / "b", "task1_codes.json.gz")
    assert read(Niv2(path=plain))[0].equals(read(Niv2(path=packed))[0])


@pytest.mark.parametrize("harm", [lambda data: data[:-5], lambda data: data[:-8] + b"12345678", lambda _: b"no gzip"])
def test_a_broken_gzip_file_is_no_short_one(tmp_path: Path, harm: Any) -> None:
    file = written(tmp_path, "task1_codes.json.gz") / "task1_codes.json.gz"
    file.write_bytes(harm(file.read_bytes()))
    with pytest.raises(SourceError, match="is not a whole gzip file"):
        read(Niv2(path=tmp_path))


def test_a_folder_its_tasks_folder_and_one_file_are_called_the_same(tmp_path: Path) -> None:
    written(tmp_path / "tasks")
    places = [tmp_path, tmp_path / "tasks", tmp_path / "tasks" / "task1_codes.json"]
    names = [[file.name for file in Niv2(path=place).files()] for place in places]
    assert names == [["task1_codes.json"]] * 3


def test_only_task_files_of_a_folder_are_read(tmp_path: Path) -> None:
    written(tmp_path)
    for name in ("README.md", "._task1_codes.json", "list.txt"):
        (tmp_path / name).write_text("no task")
    (tmp_path / "folder.json").mkdir()
    assert [file.name for file in Niv2(path=tmp_path).files()] == ["task1_codes.json"]


def test_tasks_are_chosen_by_name_and_glob(tmp_path: Path) -> None:
    for name in ("task10_a.json", "task2_b.json", "task3_c.json"):
        written(tmp_path, name)
    chosen = Niv2(path=tmp_path, tasks=("task2_b", "task1*")).files()
    assert [file.name for file in chosen] == ["task10_a.json", "task2_b.json"]


def test_a_task_that_is_not_there_is_answered_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match='has no task "task1_code"; did you mean "task1_codes"'):
        Niv2(path=written(tmp_path), tasks=("task1_code",)).files()


def test_a_tasks_file_chooses_the_tasks_that_it_names(tmp_path: Path) -> None:
    for name in ("task1_a.json", "task2_b.json"):
        written(tmp_path / "tasks", name)
    (tmp_path / "train.txt").write_text("task2_b\r\n\n")
    chosen = Niv2(path=tmp_path, tasks_file=tmp_path / "train.txt").files()
    assert [file.name for file in chosen] == ["task2_b.json"]


def test_a_tasks_file_that_names_a_missing_task_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("task1_codes\ntask9_gone\ntask8_gone\n")
    with pytest.raises(SourceError, match=r"train\.txt: names 2 tasks that .* does not have"):
        Niv2(path=written(tmp_path), tasks_file=tmp_path / "train.txt").files()


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_tasks_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.txt").write_bytes(content)
    with pytest.raises(SourceError, match="names no task"):
        Niv2(path=written(tmp_path), tasks_file=tmp_path / "train.txt").files()


def test_a_missing_tasks_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        Niv2(path=written(tmp_path), tasks_file=tmp_path / "no.txt").files()


def test_tasks_and_tasks_file_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="give one of them"):
        Niv2(path=tmp_path, tasks=("a",), tasks_file=tmp_path)


def test_max_instances_takes_the_first_of_each_task(tmp_path: Path) -> None:
    many = [{**INSTANCE, "id": str(number)} for number in range(5)]
    written(tmp_path, "task1_a.json", Instances=many)
    written(tmp_path, "task2_b.json", Instances=many)
    rows, _ = read(Niv2(path=tmp_path, max_instances=2))
    assert rows["id"].to_list() == ["0", "1", "0", "1"]


def test_a_task_plain_and_gzipped_is_one_task_too_many(tmp_path: Path) -> None:
    written(written(tmp_path), "task1_codes.json.gz")
    with pytest.raises(SourceError, match="are the same task"):
        Niv2(path=tmp_path).files()


@pytest.mark.parametrize("name", ["nowhere", "empty", "file.txt"])
def test_a_path_without_tasks_is_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").touch()
    with pytest.raises(SourceError, match=name):
        Niv2(path=tmp_path / name).files()


def test_the_place_of_the_files_is_not_part_of_the_identity(tmp_path: Path) -> None:
    here, there = (Niv2(path=tmp_path / name, tasks_file=tmp_path / name) for name in ("a", "b"))
    assert here.identity() == there.identity()


def test_a_long_task_comes_in_several_readings_with_places_that_go_on(tmp_path: Path) -> None:
    many = [{**INSTANCE, "id": str(number)} for number in range(40)]
    source = Niv2(path=written(tmp_path, Definition=["long " * 400_000], Instances=many))
    readings = list(source.read(slice=source.slices(slice_bytes=1)[0]))
    assert len(readings) > 1
    assert [place for reading in readings for place in reading.rows["place"]] == list(range(1, 41))


def test_the_shared_tasks_are_read_whole(shared: Path) -> None:
    rows, rejected = read(Niv2(path=shared / "data" / "niv2", positive_examples=2))
    assert rejected.is_empty()
    assert len(rows) == 36_953
    assert (rows["references"].list.len() > 1).sum() == 4_773
    assert rows["task"].n_unique() == 152
    assert rows["id"].n_unique() == len(rows)


def test_the_shared_list_of_training_tasks_chooses_its_tasks(shared: Path) -> None:
    folder = shared / "data" / "niv2"
    names = (folder / "splits" / "default" / "train_tasks.txt").read_text().split()
    source = Niv2(path=folder, tasks_file=folder / "splits" / "default" / "train_tasks.txt")
    assert [file.name for file in source.files()] == sorted(f"{name}.json" for name in names)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "tasks")
    elsewhere = written(tmp_path / "elsewhere", "task2_secret.json")
    (folder / "task2_secret.json").symlink_to(elsewhere / "task2_secret.json")
    with pytest.raises(SourceError, match=r"task2_secret\.json: this is a link out of"):
        Niv2(path=folder).files()
