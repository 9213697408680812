"""Traces as files: what goes out comes in again, and what was tampered with does not."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from orca_recipes.contract.answers import Lengths
from orca_recipes.errors import UserError
from orca_recipes.traces.exchange import export_traces, import_traces
from orca_recipes.traces.stats import stats
from orca_recipes.traces.trace_lines import Trace, as_json, encode
from orca_recipes.traces.trace_store import TraceStore


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
            "4: output_tokens is 'many'; it must be a whole number from 0 to 1,000,000,000,000, or null",
            "5: it is not JSON",
        ]
        assert not list(other.traces())


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("output_tokens", 2**64, "output_tokens is 18446744073709551616; it must be a whole number from 0 to"),
        ("input_tokens", -1, "input_tokens is -1; it must be a whole number"),
        ("cached_input_tokens", 1.0, "cached_input_tokens is 1.0; it must be"),
        ("max_tokens", True, "max_tokens is True; it must be"),
        ("time", -1.0, "time is -1.0; it must be seconds since 1970, from 1262304000 (2010) to "),
        ("time", 4e9, "a day from now"),
        ("time", float("nan"), "time is nan"),
        ("time", 10**400, "time is 10000"),
        ("text", ["a"], "text is ['a']; it must be text"),
        ("model_asked", "m" * 2000, "model_asked is 'mmmm"),
        ("endpoint", None, "endpoint is None; it must be text of at most 1,000 characters"),
        ("question", {"messages": [["user", None]], "sampling": {}, "sample": 0}, "question.messages is "),
        (
            "question",
            {"messages": [], "sampling": {}, "sample": 0},
            "question.messages is []; it must be a list of 1",
        ),
        ("question", {"messages": [["user", "a"]], "sampling": 3, "sample": 0}, "question.sampling is 3"),
        ("question", {"messages": [["user", "a"]], "sampling": {}, "sample": -2}, "question.sample is -2"),
    ],
)
def test_what_cannot_be_is_refused_by_place_field_and_what_is_allowed(
    store: TraceStore, trace, tmp_path: Path, field: str, value: object, sentence: str
) -> None:
    good, bad = as_json(trace("good")), {**as_json(trace("bad")), field: value}
    (tmp_path / "t.jsonl").write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n")
    found = import_traces(store, tmp_path / "t.jsonl")
    assert (found.taken, found.refused) == (1, 1)
    assert found.reasons[0].startswith("2: ")
    assert sentence in found.reasons[0]


def test_a_field_of_any_length_is_told_in_a_line_that_can_be_read(store: TraceStore, trace, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps({**as_json(trace("bad")), "a" * 70_000: 1}))
    (told,) = import_traces(store, tmp_path / "t.jsonl").reasons
    assert told.startswith("1: its fields are not those of a trace (aaa")
    assert len(told) < 200


def test_what_was_bought_stands_before_what_is_imported_however_old_that_is(
    store: TraceStore, trace, tmp_path: Path
) -> None:
    bought, imported = trace("a", text="bought"), trace("a", text="imported", time=1_500_000_000.0)
    (tmp_path / "t.jsonl").write_text(json.dumps(as_json(imported)) + "\n")
    store.append([bought])
    found = import_traces(store, tmp_path / "t.jsonl")
    assert (found.taken, found.behind, found.replaced) == (1, 1, 0)
    assert _served(store, bought) == "bought"
    found = import_traces(store, tmp_path / "t.jsonl", replace=True)
    assert (found.taken, found.known, found.replaced) == (0, 1, 1)
    assert _served(store, bought) == "imported"


def test_of_two_imported_answers_the_same_is_used_in_whatever_order_they_came(trace, tmp_path: Path) -> None:
    answers = [trace("a", text=text) for text in ("x", "y")]
    used = set()
    for number, order in enumerate((answers, answers[::-1])):
        with TraceStore(tmp_path / str(number), index=tmp_path / f"{number}.sqlite") as store:
            for each in order:
                (tmp_path / "t.jsonl").write_text(json.dumps(as_json(each)) + "\n")
                import_traces(store, tmp_path / "t.jsonl")
            used.add(_served(store, answers[0]))
    assert len(used) == 1


def test_a_blank_answer_comes_in_as_a_rejection(store: TraceStore, trace, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps(as_json(trace("a", text=" \n"))) + "\n")
    import_traces(store, tmp_path / "t.jsonl")
    (kept,) = store.traces()
    assert (kept.answer.text, kept.answer.reason) == (None, "empty")


def _served(store: TraceStore, asked: Trace) -> str | None:
    store.refresh()
    entry = store.standings([asked.answer.key], Lengths())[asked.answer.key].entry
    assert entry is not None
    return store.read({asked.answer.key: entry})[asked.answer.key].text


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
