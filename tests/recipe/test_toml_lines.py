"""Every key of a recipe has the line that it stands in."""

import re
import tomllib
from typing import Any

import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from orca_recipes.recipe.toml_lines import Path, key_lines

FIRST_VALUE = 7_000_000


def test_headers_keys_and_items_have_the_line_they_stand_in() -> None:
    text = """\
name = "x"

[collections.cot]
kind = "flan"   # a comment
tasks = [
  "a",
  # another
  "b",
]

[[rules]]
strategy = "explain"
when = { collection = "cot" }

[[rules]]
strategy = "direct"
"""
    lines = key_lines(text)
    assert lines[("name",)] == 1
    assert lines[("collections", "cot")] == 3
    assert lines[("collections", "cot", "kind")] == 4
    assert [lines[("collections", "cot", "tasks", item)] for item in (0, 1)] == [6, 8]
    assert lines[("rules", 0)] == 11
    assert lines[("rules", 0, "when", "collection")] == 13
    assert lines[("rules", 1, "strategy")] == 16


def test_dotted_keys_are_the_path_that_they_spell() -> None:
    lines = key_lines('take.cot = 1\n[a]\nb."c.d".e = 2\n')
    assert lines == {
        ("take",): 1,
        ("take", "cot"): 1,
        ("a",): 2,
        ("a", "b"): 3,
        ("a", "b", "c.d"): 3,
        ("a", "b", "c.d", "e"): 3,
    }


def test_a_key_that_is_quoted_and_escaped_is_the_key_that_toml_reads() -> None:
    assert key_lines('"a\\u00e9\\"" = 1\n\'b "c"\' = 2\n"" = 3\n') == {('aé"',): 1, ('b "c"',): 2, ("",): 3}


def test_a_table_with_a_header_of_its_own_stands_there_and_not_where_it_is_first_mentioned() -> None:
    assert key_lines("[a.b]\nx = 1\n[a]\ny = 2\n")[("a",)] == 3


def test_tables_below_an_array_of_tables_belong_to_its_newest_item() -> None:
    lines = key_lines("[[a]]\n[[a.b]]\n[a.b.c]\nx = 1\n[[a.b]]\n[[a]]\n[[a.b]]\ny = 1\n")
    assert lines[("a", 0, "b", 0, "c", "x")] == 4
    assert lines[("a", 0, "b", 1)] == 5
    assert lines[("a", 1)] == 6
    assert lines[("a", 1, "b", 0, "y")] == 8


def test_lines_are_counted_over_multi_line_texts_and_windows_line_ends() -> None:
    text = 'a = """\n[fake]\nkey = 1\n"""\nb = 1\n'
    assert key_lines(text) == {("a",): 1, ("b",): 5}
    assert key_lines(text.replace("\n", "\r\n")) == {("a",): 1, ("b",): 5}


def test_keys_that_nest_deeper_than_python_recurses_are_read() -> None:
    assert len(key_lines(".".join(["a"] * 3000) + " = 1\n")) == 3000


class Counter:
    """Gives each key and each value of a document a number of its own, so that a plain search finds it."""

    def __init__(self) -> None:
        self.keys = 0
        self.values = FIRST_VALUE

    def key(self, flavour: str) -> str:
        self.keys += 1
        return f"k{self.keys}k{flavour}"

    def value(self) -> int:
        self.values += 1
        return self.values


FLAVOURS = st.sampled_from(["", "", "-x", ".y", ' "q"', "\\", "é", "#", " = ", "]"])
SHAPES = st.recursive(
    st.sampled_from(["integer", "text"]),
    lambda inner: st.one_of(
        st.lists(st.tuples(FLAVOURS, inner), max_size=4).map(lambda pairs: ("table", pairs)),
        st.lists(inner, max_size=4).map(lambda items: ("array", items)),
    ),
    max_leaves=15,
)


def _filled(shape: Any, counter: Counter) -> Any:
    match shape:
        case "integer":
            return counter.value()
        case "text":
            return f"{counter.value()}\n[fake]\nfake = 1\n"
        case ("table", pairs):
            return {counter.key(flavour): _filled(inner, counter) for flavour, inner in pairs}
        case ("array", items):
            return [_filled(item, counter) for item in items]
    raise AssertionError(shape)


def _leaves(value: Any, path: Path = ()) -> dict[Path, int]:
    """Path of every integer and text to its number."""
    if isinstance(value, dict):
        return {spot: leaf for key, inner in value.items() for spot, leaf in _leaves(inner, (*path, key)).items()}
    if isinstance(value, list):
        return {spot: leaf for at, inner in enumerate(value) for spot, leaf in _leaves(inner, (*path, at)).items()}
    return {path: value if isinstance(value, int) else int(value.split("\n")[0])}


def _tables(value: Any, path: Path = ()) -> list[Path]:
    """Path of every key that holds a table."""
    if isinstance(value, list):
        return [spot for at, inner in enumerate(value) for spot in _tables(inner, (*path, at))]
    if not isinstance(value, dict):
        return []
    found = [(*path, key) for key, inner in value.items() if isinstance(inner, dict)]
    return found + [spot for key, inner in value.items() for spot in _tables(inner, (*path, key))]


def _searched_key(number: str, lines: list[str]) -> int:
    """The line of the header that ends in a key, else the first that holds the key."""
    holding = [at for at, line in enumerate(lines, start=1) if f"k{number}k" in line]
    headers = [
        at for at in holding if lines[at - 1].startswith("[") and re.findall(r"k(\d+)k", lines[at - 1])[-1] == number
    ]
    return (headers or holding)[0]


@settings(max_examples=150, deadline=None)
@given(pairs=st.lists(st.tuples(FLAVOURS, SHAPES), max_size=6), multiline=st.booleans())
def test_every_key_and_value_has_the_line_that_a_plain_search_finds(pairs: list[Any], multiline: bool) -> None:
    document = _filled(("table", pairs), Counter())
    text = tomli_w.dumps(document, multiline_strings=multiline)
    assert tomllib.loads(text) == document
    found, lines = key_lines(text), text.split("\n")
    for path, value in _leaves(document).items():
        at = next(at for at, line in enumerate(lines, start=1) if str(value) in line)
        opens_before = multiline and lines[at - 1].startswith(str(value))
        assert found[path] == at - opens_before
    for path in _tables(document):
        number = re.match(r"k(\d+)k", str(path[-1]))
        assert number is not None
        assert found[path] == _searched_key(number[1], lines)
