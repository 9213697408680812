"""Traces as files: what goes out comes in again, and what was tampered with does not."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from orca_recipes.errors import UserError
from orca_recipes.traces.exchange import export_traces, import_traces
from orca_recipes.traces.lines import encode
from orca_recipes.traces.stats import stats
from orca_recipes.traces.store import TraceStore


@pytest.fixture
def filled(store: TraceStore, trace) -> TraceStore:
    odd = 'line\nends, "quotes", \u2028, \x1b[31m, 日本語 and 😀'
    store.append([trace("a"), trace(odd, text=odd), trace("b", text=None, reason="content filter"), trace("a")])
    store.append([trace("cut", finish_reason="length", input_tokens=None, model_reported="another")])
    return store


@pytest.mark.parametrize("name", ["traces.jsonl", "traces.parquet"])
def test_what_is_exported_comes_in_again_as_it_was_each_trace_once(
    filled: TraceStore, tmp_path: Path, name: str
) -> None:
    assert export_traces(filled, tmp_path / name) == 4
    with TraceStore(tmp_path / "other", index=tmp_path / "other.sqlite") as other:
        assert import_traces(other, tmp_path / name).taken == 4
        assert import_traces(other, tmp_path / name).known == 4
        assert {encode(each) for each in other.traces()} == {encode(each) for each in filled.traces()}


def test_a_trace_whose_key_is_not_that_of_its_question_is_refused(filled: TraceStore, trace, tmp_path: Path) -> None:
    export_traces(filled, tmp_path / "t.jsonl")
    tables = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    tables[0]["question"]["messages"][1][1] = "something else"
    tables[1]["key"] = "00" * 32
    tables[2]["question"] = None
    tables[3]["output_tokens"] = "many"
    lines = [json.dumps(table) for table in tables]
    (tmp_path / "t.jsonl").write_text("\n".join([*lines, "no JSON", "[]", json.dumps({"key": 1})]) + "\n")
    with TraceStore(tmp_path / "other", index=tmp_path / "other.sqlite") as other:
        found = import_traces(other, tmp_path / "t.jsonl")
        assert (found.taken, found.refused) == (0, 7)
        assert found.reasons == [
            "1: its key is not that of its question",
            "2: its key is not that of its question",
            "3: it holds no question to check its key by",
            "4: output_tokens is no whole number",
            "5: it is not JSON",
        ]
        assert not list(other.traces())


@pytest.mark.parametrize("name", ["traces.txt", "gone.jsonl", "broken.parquet"])
def test_a_file_that_cannot_be_read_is_said_in_a_sentence(store: TraceStore, tmp_path: Path, name: str) -> None:
    (tmp_path / "broken.parquet").write_text("no Parquet")
    with pytest.raises(UserError, match=name):
        import_traces(store, tmp_path / name)


def test_stats_tell_models_tokens_other_names_and_damage(filled: TraceStore) -> None:
    (first, *_) = sorted(filled.folder.iterdir())
    with first.open("ab") as file:
        file.write(b"half a line")
    found = stats(filled)
    head, model, tail = found.lines()
    assert found.as_json()["models"]["m"]["answers"] == 4
    assert head.endswith("5 traces of 4 requests")
    assert model == (
        "m: 4 answers (1 cut), 1 rejection, 28 tokens in, 15 out (1 came without usage); it called itself another x 1"
    )
    assert tail.endswith("1 line cut or damaged")


def test_an_answer_to_something_that_nobody_asked_is_kept_and_not_taken_elsewhere(
    store: TraceStore, trace, tmp_path: Path
) -> None:
    store.append([replace(trace("a"), question=None)])
    export_traces(store, tmp_path / "t.parquet")
    with TraceStore(tmp_path / "other", index=tmp_path / "other.sqlite") as other:
        assert import_traces(other, tmp_path / "t.parquet").refused == 1
