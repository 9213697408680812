"""Answers that count for nothing any more, and lines that hold what cannot be."""

import json
from pathlib import Path

import pytest

from orca_recipes.contract.answers import Lengths
from orca_recipes.traces.chosen_answers import Choice, chosen
from orca_recipes.traces.exchange import export_traces, import_traces
from orca_recipes.traces.stats import stats
from orca_recipes.traces.trace_lines import Trace, as_json, digest_of
from orca_recipes.traces.trace_segments import segments
from orca_recipes.traces.trace_store import Standing, TraceStore


def standing(store: TraceStore, trace: Trace) -> Standing:
    store.refresh()
    return store.standings([trace.answer.key], Lengths((None,)))[trace.answer.key]


def drop(store: TraceStore, **words) -> int:
    found = chosen(store, Choice(**words))
    store.drop(found.places)
    return len(found.places)


def raw_line(trace: Trace, **words: object) -> bytes:
    """A line as some other program wrote it, with whatever values."""
    data = json.dumps({**as_json(trace), **words}).encode()
    return digest_of(data).encode() + b" " + data + b"\n"


def test_what_is_dropped_counts_for_nothing_in_every_index(store: TraceStore, trace, tmp_path: Path) -> None:
    store.append([trace("a"), trace("b")])
    assert standing(store, trace("a")).entry is not None
    with TraceStore(store.root, index=tmp_path / "running.sqlite") as running:
        assert standing(running, trace("a")).entry is not None
        assert drop(store, keys=(trace("a").answer.key.hex()[:12],)) == 1
        assert standing(store, trace("a")) == standing(running, trace("a")) == Standing(None, None)
        assert standing(running, trace("b")).entry is not None
    with TraceStore(store.root, index=tmp_path / "made anew.sqlite") as anew:
        assert standing(anew, trace("a")).entry is None
        assert [each.question for each in anew.traces()] == [trace("b").question]
        assert anew.index.dropped([trace("a").answer.key, trace("b").answer.key]) == {trace("a").answer.key}


def test_what_was_dropped_can_be_bought_and_imported_again(store: TraceStore, trace, tmp_path: Path) -> None:
    store.append([trace("a"), trace("b")])
    export_traces(store, tmp_path / "t.jsonl")
    assert drop(store, model="*") == 2
    assert import_traces(store, tmp_path / "t.jsonl").taken == 2
    assert standing(store, trace("a")).entry is not None
    assert drop(store, model="m") == 2
    store.append([trace("a")])
    assert standing(store, trace("a")).entry is not None


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        ({"model": "gpt-*"}, {"of gpt"}),
        ({"reason": "empty"}, {"empty now", "empty before", "null before", "blank"}),
        ({"reason": "content*"}, {"filtered"}),
        ({"reason": "*"}, {"empty now", "empty before", "null before", "blank", "filtered"}),
        ({"finish": "length"}, {"cut"}),
        ({"endpoint": "there"}, {"there"}),
        ({"before": 1_600_000_000.0}, {"old"}),
        ({"since": 1_800_000_000.0}, {"new"}),
        ({"model": "m", "since": 1_600_000_000.0, "endpoint": "there"}, {"there"}),
    ],
)
def test_what_is_chosen_is_what_all_conditions_mean(store: TraceStore, trace, words: dict, texts: set[str]) -> None:
    no_text = {"text": None}
    store.append(
        [
            trace("of gpt", model_asked="gpt-4"),
            trace("empty now", **no_text, reason="empty", finish_reason="empty"),
            trace("empty before", **no_text, reason="empty answer", finish_reason="empty answer"),
            trace("null before", **no_text, reason="no answer in 8 tries", finish_reason="null content"),
            trace("blank", text=" "),
            trace("filtered", **no_text, reason="content filter", finish_reason="content filter"),
            trace("cut", finish_reason="length"),
            trace("there", endpoint="there"),
            trace("old", time=1_500_000_000.0),
            trace("new", time=1_900_000_000.0),
        ]
    )
    found = {place.key for place in chosen(store, Choice(**words)).places}
    assert {each.question.messages[-1][1] for each in store.traces() if each.answer.key in found} == texts


def test_an_empty_reply_settles_nothing_in_whatever_words_it_was_kept(store: TraceStore, trace) -> None:
    kept = [
        trace("a", text=None, reason="empty", finish_reason="empty", max_tokens=None),
        trace("b", text=None, reason="empty answer", finish_reason="empty answer", max_tokens=None),
        trace("c", text="\n", max_tokens=None),
    ]
    store.append(kept)
    for each in kept:
        stand = standing(store, each)
        assert stand.entry is None
        assert stand.last is not None
        assert store.read({each.answer.key: stand.last})[each.answer.key].text is None
    store.append([trace("a", max_tokens=None)])
    assert standing(store, kept[0]).entry is not None


def test_a_stored_line_that_cannot_be_keeps_its_answer_and_loses_what_is_not_believed(store: TraceStore, trace) -> None:
    store.append([trace("a")])
    (path,) = segments(store.folder)
    odd = [raw_line(trace("b"), output_tokens=2**70, text="B"), raw_line(trace("c"), time=-5.0, input_tokens=-3)]
    path.write_bytes(path.read_bytes() + b"".join(odd))
    assert standing(store, trace("a")).entry is not None
    assert standing(store, trace("b")).entry == standing(store, trace("b")).last
    served = standing(store, trace("b")).entry
    assert served is not None
    assert served.output_tokens is None
    assert store.read({trace("b").answer.key: served})[trace("b").answer.key].text == "B"
    told = list(stats(store).lines())
    assert told[-1].startswith("2 traces with a count or time that cannot be, which is not believed (")
    assert told[-1].endswith(":2: output_tokens is 1180591620717411303424)")


def test_a_time_that_cannot_be_stands_behind_one_that_can(store: TraceStore, trace) -> None:
    store.append([trace("a", text="sound")])
    (path,) = segments(store.folder)
    path.write_bytes(path.read_bytes() + b"".join(raw_line(trace("a"), text="odd", time=t) for t in (-1e9, 0, 1e300)))
    entry = standing(store, trace("a")).entry
    assert entry is not None
    assert store.read({trace("a").answer.key: entry})[trace("a").answer.key].text == "sound"


def test_an_index_of_an_older_layout_is_made_anew(trace, tmp_path: Path) -> None:
    import sqlite3

    index = tmp_path / "index.sqlite"
    with sqlite3.connect(index) as old:
        old.executescript("CREATE TABLE segments (id, name); CREATE TABLE answers (key BLOB); PRAGMA user_version = 1;")
    old.close()
    with TraceStore(tmp_path / "traces", index=index) as store:
        store.append([trace("a")])
        assert standing(store, trace("a")).entry is not None
