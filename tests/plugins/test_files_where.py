"""Rows that are chosen by columns: the words of `where`, in every format alike."""

import pytest
from pydantic import ValidationError

from orca_plugins.sources.files.kind import Files
from orca_recipes.errors import SourceError
from tests.plugins.rows_in_files import FORMATS, read

ROWS = [
    {"question": "one", "answer": "1", "lang": "en", "score": 0.9, "n": 3, "good": True, "license": None},
    {"question": "deux", "answer": "2", "lang": "fr", "score": 0.2, "n": 1, "good": False, "license": "nc"},
    {"question": "three", "answer": "3", "lang": None, "score": None, "n": 2, "good": None, "license": "cc-by"},
]
CHOSEN = [
    ({"lang": "en"}, ["one"]),
    ({"lang": {"eq": "en"}}, ["one"]),
    ({"lang": {"in": ["fr", "de"]}}, ["deux"]),
    ({"score": {"ge": 0.2, "lt": 0.9}}, ["deux"]),
    ({"n": {"gt": 1}}, ["one", "three"]),
    ({"n": 2}, ["three"]),
    ({"n": {"in": [1, 2.0]}}, ["deux", "three"]),
    ({"good": True}, ["one"]),
    ({"question": {"matches": "^(one|three)$"}}, ["one", "three"]),
    ({"license": {"null": True}}, ["one"]),
    ({"license": {"null": False}}, ["deux", "three"]),
    ({"not": {"lang": "fr"}}, ["one", "three"]),
    ({"any": [{"lang": "fr"}, {"n": {"ge": 3}}]}, ["one", "deux"]),
    ({"lang": "en", "not": {"n": 3}}, []),
    ({"not": {"any": [{"lang": "en"}, {"lang": "fr"}]}}, ["three"]),
]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("where", "kept"), CHOSEN)
def test_the_same_rows_are_chosen_whatever_the_format(name, where, kept):
    rows, rejected = read(ROWS, name, where=where)
    assert [row["question"] for row in rows] == kept
    assert rejected == []


def test_fields_of_csv_are_compared_as_what_they_spell(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("question,answer,score,good\none,1,0.9,true\ntwo,2,0.1,False\nthree,3,,\nfour,4,1_0,true\n")
    source = Files(path=path, where={"score": {"gt": 0.05}, "good": True})
    (reading,) = [reading for piece in source.slices(slice_bytes=1 << 20) for reading in source.read(slice=piece)]
    assert reading.rows["question"].to_list() == ["one"]
    assert reading.rejected.rows() == [(5, 'where: "score" is not a number, which it is compared with')]
    assert reading.passed_over == {"where: it does not hold": 2}


def test_a_value_of_another_sort_is_a_fault_of_its_row():
    rows = [{"question": "a", "answer": "b", "score": value} for value in (0.5, "high", 0.7)]
    kept, rejected = read(rows, where={"score": {"ge": 0.6}})
    assert [row["place"] for row in kept] == [3]
    assert rejected == [(2, 'where: "score" is not a number, which it is compared with')]


def test_a_parquet_column_of_another_sort_is_a_fault_of_the_file():
    with pytest.raises(SourceError, match='column "lang" has type string; where wants a number'):
        read(ROWS, "rows.parquet", where={"lang": {"ge": 1}})


@pytest.mark.parametrize("name", FORMATS)
def test_a_column_that_no_row_has_is_a_fault_of_the_file(name):
    with pytest.raises(SourceError, match=r'no column "langg" for where.*did you mean "lang"'):
        read(ROWS, name, where={"langg": "en"})


def test_rows_that_cannot_be_used_are_left_out_where_they_are_not_chosen():
    rows = [{"question": ["no", "text"], "answer": "b", "lang": "fr"}, {"question": "a", "answer": "b", "lang": "en"}]
    kept, rejected = read(rows, where={"lang": "en"})
    assert [row["question"] for row in kept] == ["a"]
    assert rejected == []
    _, rejected = read(rows, where={"lang": "fr"})
    assert [place for place, _ in rejected] == [1]


TALKS = [
    {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]},
    {"messages": [{"role": role, "content": "z"} for role in ("user", "assistant", "user", "assistant")]},
    {"messages": [{"role": role, "content": "w"} for role in ("user", "assistant", "tool", "assistant")]},
]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("said", "kept"),
    [({"turns": {"ge": 2}}, [2, 3]), ({"turns": 1}, [1]), ({"role": "tool"}, [3]), ({"matches": "^[xz]$"}, [1, 2])],
)
def test_conversations_are_chosen_by_turns_roles_and_texts(name, said, kept):
    rows, rejected = read(TALKS, name, where={"messages": said})
    assert [row["place"] for row in rows] == kept
    assert rejected == []


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({}, "name a column"),
        ({"lang": ["en"]}, r"say \{ in = \[...\] \}"),
        ({"lang": {"equals": "en"}}, 'there is no "equals"'),
        ({"lang": {"in": ["en", 1]}}, "a list of values of one type"),
        ({"lang": {"ge": "b"}}, "ge wants a number"),
        ({"lang": {"matches": "("}}, "is no pattern"),
        ({"lang": {"matches": "(?!x)"}}, "looks around"),
        ({"any": [{"n": 1}, {"n": "one"}]}, "n is compared with a number and with text"),
        ({"not": ["x"]}, "not: tables of columns"),
    ],
)
def test_a_where_that_says_nothing_is_refused_with_a_sentence(where, said, tmp_path):
    with pytest.raises(ValidationError, match=said):
        Files(path=tmp_path, where=where)


def test_a_source_without_where_is_known_by_what_it_was_known_by(tmp_path):
    assert "where" not in Files(path=tmp_path).identity()
    assert Files(path=tmp_path, where={"lang": "en"}).identity()["where"] == {"lang": "en"}
