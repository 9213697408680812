"""Well-known layouts by name: each reads its own example, and is recognised by it."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from orca_plugins.sources.files.kind import Files
from orca_plugins.sources.files.shapes import equally_fitting, shapes
from orca_recipes.errors import PluginError, SourceError
from tests.plugins.rows_in_files import FORMATS, content, read

NAMES = list(shapes())


def example(name: str) -> dict:
    return json.loads(shapes()[name].example)


def spoken(row: dict) -> list[tuple[str, str]]:
    """Who says what in a row that was read."""
    if row["messages"] is not None:
        return [(message["role"], message["content"]) for message in row["messages"]]
    said = [("user", row["question"]), ("assistant", row["answer"])]
    return [("system", row["system"]), *said] if row["system"] else said


def answered(row: dict) -> list[str]:
    """Who speaks in a row, with the answer that stands beside its messages."""
    return [who for who, _ in spoken(row)] + ["assistant"] * (row["messages"] is not None and row["answer"] is not None)


@pytest.mark.parametrize("name", NAMES)
def test_a_shape_reads_its_example(name: str):
    rows, rejected = read([example(name)], shape=name)
    if name == "oasst":
        assert (rows, rejected) == ([], [])  # a question alone
        return
    assert rejected == []
    (row,) = rows
    assert answered(row)[-2:] in (["user", "assistant"], ["tool", "assistant"])
    assert all(text for role, text in spoken(row) if role != "assistant")
    assert spoken(row)[-1][1]


@pytest.mark.parametrize("name", NAMES)
def test_a_shape_is_known_by_its_example_and_no_other_is(name: str):
    assert equally_fitting([example(name)]) == [name]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("oasst")])
def test_a_shape_reads_the_same_in_every_format(name: str, format: str):
    assert read([example(name)], format, shape=name) == read([example(name)], "rows.jsonl", shape=name)


def test_columns_of_the_recipe_win_over_those_of_its_shape():
    rows, _ = read([{**example("dolly"), "kind": "k"}], shape="dolly", columns={"task": "kind"})
    assert [(row["task"], row["answer"]) for row in rows] == [("k", "1901")]


def test_a_column_that_not_every_file_of_a_shape_has_is_read_where_it_is():
    row = {**example("sharegpt"), "system": "Be kind."}
    for name in FORMATS:
        assert [one["system"] for one in read([row], name, shape="sharegpt")[0]] == ["Be kind."]
        assert [one["system"] for one in read([example("sharegpt")], name, shape="sharegpt")[0]] == [None]


def test_a_shape_that_there_is_not_is_answered_with_the_nearest(tmp_path: Path):
    with pytest.raises(ValidationError, match='there is no shape "alpacca"; did you mean "alpaca"'):
        Files(path=tmp_path, shape="alpacca")


def settled(folder: Path, rows: list[dict], **versions: str) -> Files:
    (folder / "rows.jsonl").write_bytes(content(rows, "rows.jsonl"))
    source = Files(path=folder / "rows.jsonl", shape="auto")
    return source.settled(files=[], versions=versions, insist=False)


def test_a_shape_is_recognised_once_and_pinned(tmp_path: Path):
    found = settled(tmp_path, [example("alpaca")])
    assert found.shape == "alpaca"
    assert found.pins() == {"shape": "alpaca"}
    assert found.identity() == Files(path=tmp_path, shape="alpaca").identity()
    assert settled(tmp_path, [example("dolly")], shape="alpaca").shape == "alpaca"


def test_rows_of_no_known_shape_are_told_with_their_columns(tmp_path: Path):
    with pytest.raises(SourceError, match=r"no shape that is known \(columns: a, b\); name those to read: columns"):
        settled(tmp_path, [{"a": "x", "b": "y"}])


def test_rows_of_two_shapes_that_fit_as_well_are_told_with_both(tmp_path: Path):
    both = {**example("problem_solution"), **example("prompt_completion")}
    with pytest.raises(SourceError, match='fit the shapes "prompt_completion" and "problem_solution" equally well'):
        settled(tmp_path, [both])


def test_rows_of_several_shapes_are_of_none(tmp_path: Path):
    with pytest.raises(SourceError, match="no shape that is known"):
        settled(tmp_path, [example("alpaca"), example("lima")])


def test_files_of_several_shapes_are_told_apart(tmp_path: Path):
    for shape in ("alpaca", "lima"):
        (tmp_path / f"{shape}.jsonl").write_text(json.dumps(example(shape)) + "\n")
    with pytest.raises(
        SourceError, match=r"different layouts: .*alpaca.jsonl \(alpaca\), .*lima.jsonl \(lima\); read them"
    ):
        Files(path=tmp_path, shape="auto").settled(files=[], versions={}, insist=False)


def test_a_source_without_a_shape_is_known_by_what_it_was_known_by(tmp_path: Path):
    assert not {"shape", "paths", "delimiter"} & set(Files(path=tmp_path).identity())
    assert Files(path=tmp_path).pins() == {}


def test_turns_of_one_text_are_cut_at_their_marks():
    chat = "USER: Is USERS: a word?\n\n\nASSISTANT: Yes. <|endoftext|>\n\n\nUSER: now?\n\n\nASSISTANT: One moment."
    rows, _ = read(
        [{"system": "SYSTEM: s", "chat": chat + "\n\n\nFUNCTION RESPONSE: 12\n\n\nASSISTANT: Noon."}], shape="glaive"
    )
    assert rows[0]["system"] == "s"
    assert spoken(rows[0]) == [
        ("user", "Is USERS: a word?"),
        ("assistant", "Yes."),
        ("user", "now?"),
        ("assistant", "One moment."),
        ("tool", "12"),
        ("assistant", "Noon."),
    ]
    _, rejected = read([{"chat": "Hello ASSISTANT: x"}], shape="glaive")
    assert rejected == [(1, "messages: a text that does not begin with one of USER:, ASSISTANT:, FUNCTION RESPONSE:")]


def test_what_a_pair_holds_beside_is_refused_by_name():
    _, rejected = read([{"conversation": [{"input": "a", "output": "b", "tool_calls": [1]}]}], shape="capybara")
    assert "tool_calls" in rejected[0][1]


@pytest.fixture
def offering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Install a package that offers shapes, as pip would leave it."""

    def install(table: str) -> None:
        (tmp_path / "theirs").mkdir()
        (tmp_path / "theirs" / "__init__.py").write_text("")
        (tmp_path / "theirs" / "shapes.toml").write_text(table)
        info = tmp_path / "theirs-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[orca_recipes.shapes]\ntheirs = theirs:shapes.toml\n")
        monkeypatch.syspath_prepend(tmp_path)
        sys.modules.pop("theirs", None)
        shapes.cache_clear()

    yield install
    monkeypatch.undo()
    shapes.cache_clear()


RIDDLE = """[riddle]
about = "a riddle and its key"
columns = { question = "riddle", answer = "key" }
needs = { riddle = "text", key = "text" }
example = '{"riddle": "What falls and never breaks?", "key": "Night."}'
"""


def test_another_package_offers_shapes(offering: Callable[[str], None], tmp_path: Path):
    offering(RIDDLE)
    row = json.loads(shapes()["riddle"].example)
    assert settled(tmp_path, [row]).shape == "riddle"
    assert read([row], shape="riddle")[0][0]["answer"] == "Night."
    assert "riddle" in Files.layouts()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (RIDDLE.replace("[riddle]", "[alpaca]"), 'theirs offers a shape "alpaca", and there is one of this name'),
        (RIDDLE.replace("about", "abuot"), r"the shapes that theirs offers \(theirs:shapes.toml\) cannot be read"),
        ("[riddle", "cannot be read: TOMLDecodeError"),
    ],
)
def test_shapes_of_another_package_that_cannot_be_used_are_told(offering: Callable[[str], None], table: str, said: str):
    offering(table)
    with pytest.raises(PluginError, match=said):
        shapes()
