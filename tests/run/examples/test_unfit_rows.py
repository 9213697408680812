"""Rows that nobody should train on are listed with the true reason, whatever source they come from."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca_plugins.sources.files.kind import Files
from orca_plugins.sources.flan.kind import Flan
from orca_recipes.contract.frames import completed, messages_type, rejected_rows_schema, rows_schema
from orca_recipes.contract.kinds import Reading, Slice, Source, SourceFile
from orca_recipes.errors import SourceError
from orca_recipes.progress import Progress
from orca_recipes.run.build import build
from orca_recipes.run.examples.read_part import ReadTask, read_part
from orca_recipes.run.examples.unfit_rows import _is_blank
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.show.show_lines import example_lines
from orca_recipes.shards.show.spans import SpanDecoder
from orca_recipes.store.arrow_files import read_frame, read_table
from orca_recipes.store.stage_folder import StageFolder
from tests.run.small import STUDENT, asked, write_rows

ASK, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
BLANKS = ["", " ", "\n\t", "\u00a0\u2003", "\x1c\x1f"]


def outcome(folder: Path, source: Source) -> tuple[list[int], list[tuple[int, str]]]:
    """Places of the rows that are kept, and place and reason of the others."""
    stage = StageFolder(folder / "stage")
    stage.path.mkdir()
    slices = tuple(source.slices(slice_bytes=1 << 20))
    read_part(ReadTask("part", stage.path, "c", source, slices, pinned=()))
    part = stage.part("part")
    rejected = read_frame(part.file(".rejected.arrow")).select("place", "reason").rows()
    tables = [read_table(part.file(batch["suffix"])) for batch in part.report["batches"]]
    return [place for table in tables for place in table["place"].to_pylist()], sorted(rejected)


def of_files(folder: Path, rows: list[dict[str, Any]], **options: Any) -> tuple[list[int], list[tuple[int, str]]]:
    write_rows(folder / "rows.jsonl", rows)
    return outcome(folder, Files(path=folder / "rows.jsonl", **options))


EDGES = st.text(alphabet=" \t\n\v\f\r\x1b\x1c\x1f\x20!~\x7f\x80\x85\xa0é\u2003\u200b\u3000a", max_size=4)


@given(texts=st.lists(st.none() | EDGES | st.text(max_size=4), min_size=1))
def test_a_blank_text_is_one_that_strip_leaves_nothing_of(texts: list[str | None]):
    found = _is_blank(pl.Series(texts, dtype=pl.String)).to_list()

    assert found == [None if text is None else not text.strip() for text in texts]


@pytest.mark.parametrize("blank", BLANKS, ids=ascii)
def test_a_blank_question_answer_or_trained_turn_is_empty(tmp_path: Path, blank: str):
    rows = [
        {"question": blank, "answer": "a"},
        {"question": "q", "answer": blank},
        {"question": "q", "reference": blank},
        {"question": "q", "reference": ["r", blank]},
        {"messages": [ASK, {**ANSWER, "content": blank}]},
        {"messages": [{**ASK, "content": blank}, ANSWER]},
        {"messages": [ASK, {**ANSWER, "content": blank, "weight": 0}, ASK, ANSWER]},
        {"messages": [{"role": "system", "content": blank}, ASK, {"role": "tool", "content": blank}, ANSWER]},
        {"question": "q", "answer": f"{blank}a{blank}", "reference": ["r", "s"]},
    ]
    kept, rejected = of_files(tmp_path, rows)
    assert kept == [7, 8, 9]
    assert rejected == [
        (1, "question: it is empty"),
        (2, "answer: it is empty"),
        (3, "reference: it is empty"),
        (4, "reference: it is empty"),
        (5, "messages: an answer to be trained is empty"),
        (6, "messages: a user's message is empty"),
    ]


def test_an_answer_that_nobody_asked_for_is_none(tmp_path: Path):
    rows = [
        {"answer": "a"},
        {"messages": [ANSWER]},
        {"messages": [{"role": "system", "content": "s"}, ANSWER]},
        {"messages": []},
        {"messages": [ANSWER, ASK, ANSWER]},
        {"question": None, "reference": "r"},
    ]
    kept, rejected = of_files(tmp_path, rows)
    assert kept == [5]
    assert rejected == [
        (1, "question: there is none"),
        (2, "question: no message is a user's"),
        (3, "question: no message is a user's"),
        (4, "messages: there are none"),
        (6, "question: there is none"),
    ]


def test_two_system_messages_are_one_where_they_are_equal_or_one_is_empty(tmp_path: Path):
    turns = [{"role": "system", "content": "S"}, ASK, ANSWER]
    empty = [{"role": "system", "content": ""}, ASK, ANSWER]
    rows = [
        {"system": "S", "messages": turns},
        {"system": "T", "messages": turns},
        {"system": "", "messages": turns},
        {"system": "T", "messages": empty},
        {"system": "T", "messages": [ASK, ANSWER]},
        {"system": "T", "messages": [ASK, turns[0], ANSWER]},
    ]
    kept, rejected = of_files(tmp_path, rows)
    assert kept == [1, 3, 4, 5]
    assert rejected == [
        (2, "system: the row has one, and its messages begin with another"),
        (6, LATER),
    ]


def test_a_question_beside_messages_is_one_that_they_ask_or_the_row_is_rejected(tmp_path: Path):
    rows = [
        {"question": "q", "messages": [ASK, ANSWER]},
        {"question": "another", "messages": [ASK, ANSWER]},
        {"question": " ", "messages": [ASK, ANSWER]},
        {"question": "last", "messages": [ASK, ANSWER, {**ASK, "content": "last"}, ANSWER]},
        {"question": "a", "messages": [ASK, ANSWER]},
        {"question": "q", "answer": "a"},
    ]
    kept, rejected = of_files(
        tmp_path, rows, columns={"question": "question", "messages": "messages", "answer": "answer"}
    )
    two = "question: the row has one that its messages do not ask; name one of the two in columns"
    assert (kept, rejected) == ([1, 3, 4, 6], [(2, two), (5, two)])
    (table,) = (read_table(path) for path in (tmp_path / "stage").glob("part-*.arrow"))
    assert table["question"].to_pylist() == [None, None, None, "q"]


LATER = (
    "messages: a system message stands after the first message; "
    'second_system = "merge" makes one of all, "keep" leaves it there'
)


def test_a_later_system_message_is_merged_into_the_first_or_stays_where_it_stands(tmp_path: Path):
    first, later = ({"role": "system", "content": content} for content in ("S", "T"))
    rows = [
        {"messages": [first, ASK, ANSWER, later, ASK, ANSWER]},
        {"messages": [ASK, later, ANSWER]},
        {"system": "R", "messages": [first, ASK, later, first, ANSWER]},
        {"messages": [first, ASK, ANSWER]},
        {"question": "q", "answer": "a"},
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    recipe = tmp_path / "recipe.toml"
    text = 'name = "r"\n[collections.c]\nkind = "files"\npath = "rows.jsonl"\nWAY\n'
    recipe.write_text(text.replace("WAY", 'second_system = "merge"') + STUDENT)
    build(asked(recipe, out=tmp_path / "merged"), Progress())
    assert pl.read_parquet(tmp_path / "merged" / "main" / "rejected.parquet").is_empty()
    turn = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|>"
    of, three, two, one = (f"<|im_start|>system\n{said}<|im_end|>\n" for said in ("T", "R\n\nS\n\nT", "S\n\nT", "S"))
    wanted = [f"{two}{turn}\n{turn}", of + turn, three + turn, one + turn, turn]
    assert sorted(whole_texts(tmp_path / "merged")) == sorted(wanted)
    recipe.write_text(text.replace("WAY", 'second_system = "keep"\non_bad_row = "reject"') + STUDENT)
    build(asked(recipe, out=tmp_path / "kept"), Progress())
    (lost,) = pl.read_parquet(tmp_path / "kept" / "main" / "rejected.parquet")["reason"]
    assert lost == "system: the row has one, and its messages begin with another"
    wanted = [f"{one}{turn}\n{of}{turn}", one + turn, turn]
    wanted += [turn.replace("\n<|im_start|>assistant", f"\n{of}<|im_start|>assistant")]
    assert sorted(whole_texts(tmp_path / "kept")) == sorted(wanted)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_a_blank_target_of_flan_is_rejected_as_any_other_answer(tmp_path: Path, name: str):
    texts = [("q", "a"), ("q", " \n"), (" ", "a")]
    rows = [{"inputs": inputs, "targets": targets, "task_source": "P3", "task_name": "t"} for inputs, targets in texts]
    if name.endswith("parquet"):
        pl.DataFrame(rows).write_parquet(tmp_path / name)
    else:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    kept, rejected = outcome(tmp_path, Flan(submix="t0", path=tmp_path))
    assert kept == [1]
    assert rejected == [(2, "reference: it is empty"), (3, "question: it is empty")]


class Handed(Source):
    """Conversations that a stranger's source hands over, already marked."""

    kind: Literal["handed"] = "handed"
    talks: tuple[tuple[dict[str, Any], ...], ...]

    def files(self) -> Sequence[SourceFile]:
        return []

    def slices(self, *, slice_bytes: int) -> Sequence[Slice]:
        return [Slice(file=None, start=0, stop=len(self.talks))]

    def read(self, *, slice: Slice) -> Iterator[Reading]:
        talks = [list(talk) for talk in self.talks]
        rows = pl.DataFrame({"place": range(1, len(talks) + 1), "messages": pl.Series(talks, dtype=messages_type())})
        yield Reading(rows=completed(rows, rows_schema()), rejected=pl.DataFrame(schema=rejected_rows_schema()))


def test_a_strangers_source_is_held_to_the_same_rules(tmp_path: Path):
    talks = (
        ({**ASK, "trained": False}, {**ANSWER, "trained": True}),
        ({**ASK, "trained": True}, {**ANSWER, "trained": True}),
        ({**ASK, "trained": False}, {**ANSWER, "content": " ", "trained": True}),
        ({**ASK, "trained": None}, {**ANSWER, "trained": None}),
        ({**ASK, "role": None, "trained": None}, {**ANSWER, "content": None, "trained": None}),
    )
    kept, rejected = outcome(tmp_path, Handed(talks=talks))
    assert kept == [1, 4]
    assert rejected == [
        (2, "messages: a turn that is not the assistant's is marked as trained"),
        (3, "messages: an answer to be trained is empty"),
        (5, "question: no message is a user's"),
    ]


def test_the_build_trains_what_flags_allow_and_lists_what_it_cannot_read(tmp_path: Path):
    rows = [
        {"messages": [ASK, {**ANSWER, "content": "bad", "weight": 0}, ASK, {**ANSWER, "content": "good"}]},
        {"system": "Be kind.", "messages": [{"role": "system", "content": ""}, ASK, ANSWER]},
        {"messages": [ASK, {**ANSWER, "tool_calls": [{"name": "f"}]}]},
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'name = "r"\n[collections.c]\nkind = "files"\npath = "rows.jsonl"\non_bad_row = "reject"\n' + STUDENT
    )
    build(asked(recipe), Progress())
    out = tmp_path / "out"
    trained, whole = texts(out)
    assert sorted(trained) == ["a<|im_end|>", "good<|im_end|>"]
    assert "<|im_start|>assistant\nbad<|im_end|>" in whole
    assert "<|im_start|>system\nBe kind.<|im_end|>" in whole
    rejected = pl.read_parquet(out / "main" / "rejected.parquet")
    assert rejected.select("file", "line", "stage", "reason").rows() == [
        (
            "rows.jsonl",
            3,
            "tokenize",
            "tool_calls (function_call) of a message: no place for it in this template; "
            "the kind from_tokenizer may have one",
        )
    ]


SOUND = [
    {"messages": [ASK, {**ANSWER, "refusal": "no"}]},
    {"messages": [ASK, {**ANSWER, "content": [{"type": "image", "url": "x"}]}]},
    {"messages": [ASK, {**ANSWER, "content": ""}]},
    {"question": "q", "answer": " "},
    {"question": "q", "reference": ""},
]


@pytest.mark.parametrize("lost", SOUND)
def test_sound_rows_without_what_is_trained_stop_a_build_only_where_any_row_would(tmp_path, lost):
    rows = [{"messages": [ASK, ANSWER]}, lost]
    write_rows(tmp_path / "rows.jsonl", rows)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('name = "r"\n[collections.c]\nkind = "files"\npath = "rows.jsonl"\n' + STUDENT)
    build(asked(recipe), Progress())
    assert pl.read_parquet(tmp_path / "out" / "main" / "rejected.parquet")["stage"].to_list() == ["read"]
    with pytest.raises(SourceError, match=r"1 of 2 rows cannot be used, the first at rows.jsonl:2: "):
        build(asked(recipe, "collections.c.on_bad_row=error"), Progress())
    write_rows(tmp_path / "rows.jsonl", [rows[0], {"messages": "what?"}])
    with pytest.raises(SourceError, match="more than one in a hundred"):
        build(asked(recipe), Progress())


def whole_texts(out: Path) -> list[str]:
    """The text of each example of a build."""
    return ["".join(part["text"] for part in one["segments"]) for one in example_lines(out)]


def texts(out: Path) -> tuple[list[str], str]:
    """The trained texts of a build, and all of its text."""
    decoder, trained, whole = SpanDecoder(out / "tokenizer" / "tokenizer.json"), [], ""
    for path in sorted(out.glob("main/*.idx")):
        shard = Shard.open(path.with_suffix(""), check=True)
        for number in range(shard.rows):
            row = shard.row(number)
            bounds = row.segments.token_starts.tolist()
            spans = decoder.texts(row.tokens.tolist(), bounds)
            whole += "".join(spans)
            trained += [text for text, mode in zip(spans, row.segments.modes.tolist(), strict=True) if mode & 1]
    return trained, whole
