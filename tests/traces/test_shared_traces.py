"""Traces at an address that several hosts share: each host is a cache of its own, the S3 server is a real one."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orca_recipes.contract.answers import Lengths
from orca_recipes.errors import BucketError, NoStore, ObjectsError, TraceError
from orca_recipes.objects.objects import Objects
from orca_recipes.store.claims import quiet
from orca_recipes.traces import shared_traces as module
from orca_recipes.traces.chosen_answers import Choice, chosen
from orca_recipes.traces.exchange import export_traces, import_traces
from orca_recipes.traces.shared_sent import GROUP, SharedSent
from orca_recipes.traces.shared_traces import shared_traces_root, traces_name
from orca_recipes.traces.stats import stats
from orca_recipes.traces.trace_store import DurableAnswers, TraceStore, any_dropped
from tests.traces.conftest import MakeTrace

LENGTHS = Lengths((10,))


class Hosts:
    """Traces of several hosts over one address, each with a cache and an index of its own."""

    def __init__(self, url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.url, self.objects = url, Objects.at(url)
        self.folder, self._monkeypatch = folder, monkeypatch

    def root(self, name: str) -> Path:
        self._monkeypatch.setenv("ORCA_CACHE", str(self.folder / name))
        return shared_traces_root(self.url)

    @contextmanager
    def store(self, name: str) -> Iterator[TraceStore]:
        with TraceStore(self.root(name), index=self.folder / f"{name}.sqlite") as store:
            yield store

    def keys(self, prefix: str) -> list[str]:
        return [one.key for one in self.objects.listed(prefix)]


@pytest.fixture(params=["s3", "file"])
def hosts(request: pytest.FixtureRequest, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hosts:
    url = f"s3://{bucket}/traces" if request.param == "s3" else f"file://{tmp_path}/shared/traces"
    if request.param == "file":
        (tmp_path / "shared" / "traces").mkdir(parents=True)
    return Hosts(url, tmp_path, monkeypatch)


def end_leases(hosts: Hosts) -> None:
    """Have nobody wait for the leases of hosts that died: three seconds each."""
    hosts.objects.delete(hosts.keys("running"))


def held(store: TraceStore) -> list[str | None]:
    """The texts of all answers that a host sees."""
    store.refresh()
    return sorted(trace.answer.text or "" for trace in store.traces())


def test_what_one_host_bought_another_reads(hosts: Hosts, trace: MakeTrace):
    with hosts.store("a") as bought:
        bought.append([trace("One?", text="one")])
        bought.append([trace("Two?", text="two"), trace("Three?", text="three")])
        with hosts.store("b") as other:
            assert held(other) == ["one", "three", "two"]
            bought.append([trace("Four?", text="four")])
            other.refresh()
            key = trace("Four?").answer.key
            entry = other.standings([key], LENGTHS)[key].entry
            assert entry is not None
            assert other.read({key: entry})[key].text == "four"
        assert held(bought) == ["four", "one", "three", "two"]
    assert len(hosts.keys("segments")) == 1
    assert not list((hosts.root("a") / "unsent").iterdir())
    assert hosts.keys("running") == hosts.keys("claims") == []


def test_a_segment_that_was_written_often_or_is_large_is_followed_by_another(
    hosts: Hosts, trace: MakeTrace, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_SEGMENT_WRITES", 2)
    with hosts.store("a") as store:
        for number in range(5):
            store.append([trace(f"{number}?", text=str(number))])
    assert len(hosts.keys("segments")) == 3
    with hosts.store("b") as other:
        assert held(other) == ["0", "1", "2", "3", "4"]
        assert stats(other).traces == 5
        assert stats(other).root == hosts.url == traces_name(other.root) == other.name


def test_an_answer_counts_as_kept_when_it_is_at_the_address(hosts: Hosts, trace: MakeTrace):
    with hosts.store("a") as store:

        async def buy() -> None:
            durable = DurableAnswers(store)
            await asyncio.gather(*(durable.keep(trace(f"{number}?", text=str(number))) for number in range(5)))
            (key,) = hosts.keys("segments")
            assert hosts.objects.get(key).count(b"\n") == 5

        asyncio.run(buy())


def test_answers_that_an_address_out_of_reach_did_not_take_go_up_with_the_next_and_with_the_next_run(
    hosts: Hosts, trace: MakeTrace, monkeypatch: pytest.MonkeyPatch
):
    def out_of_reach(*_: object) -> bool:
        raise ObjectsError("nothing answers")

    with hosts.store("a") as store:
        store.append([trace("One?", text="one")])
        with monkeypatch.context() as patched:
            for name in ("create", "replace", "put"):
                patched.setattr(Objects, name, out_of_reach)
            for number in range(2):
                with pytest.raises(ObjectsError):
                    store.append([trace("Two?", text="two", request_id=str(number))])
        store.append([trace("Three?", text="three")])
        with hosts.store("b") as other:
            assert held(other) == ["one", "three", "two", "two"]
        with monkeypatch.context() as patched:
            for name in ("create", "replace", "put"):
                patched.setattr(Objects, name, out_of_reach)
            with pytest.raises(ObjectsError):
                store.append([trace("Four?", text="four")])
    # The run ended without it; another one of this machine brings it.
    with hosts.store("a") as again:
        assert "four" not in held(again)
        with again.asking({"model": "m"}, quiet):
            assert held(again) == ["four", "one", "three", "two", "two"]
    assert not list((hosts.root("a") / "unsent").iterdir())


KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from orca_recipes.contract.answers import Answer
from orca_recipes.objects.objects import Objects
from orca_recipes.store.claims import quiet
from orca_recipes.traces.trace_lines import Question, Trace
from orca_recipes.traces.trace_store import TraceStore
from orca_recipes.traces.shared_traces import shared_traces_root

def trace(question, text):
    asked = Question((("system", "Be kind."), ("user", question)), {"model": "m", "temperature": 0.5}, 0)
    return Trace(Answer(asked.key(), text, "stop", None, 7, 0, 3, "m", "m", "here", 1_700_000_000.25, "r-1", 10), asked)

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

where, url = sys.argv[1:]
with TraceStore(shared_traces_root(url)) as store, store.asking({"model": "m"}, quiet), store.in_flight() as sent:
    for key in (b"answered", b"flying", b"never sent"):
        sent.send(sent.foresee([key]))
    sent.begin(b"answered", "here", once=False)
    store.append([trace("One?", "one")])
    sent.answered(b"answered")
    sent.begin(b"flying", "here", once=False)
    sent.begin(b"flying", "here", once=False)
    if where == "journal":
        Objects.create = Objects.replace = Objects.put = die
    if where == "address":
        for name in ("create", "replace", "put"):
            def then(*words, done=getattr(Objects, name)):
                done(*words)
                die()
            setattr(Objects, name, then)
    store.append([trace("Two?", "two")])
    die()
"""


@pytest.mark.parametrize("where", ["journal", "address", "after"])
def test_a_kill_at_any_moment_of_a_write_loses_no_answer_and_what_was_in_flight_is_counted_by_the_next_host(
    hosts: Hosts, where: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ORCA_CACHE", str(hosts.folder / "a"))
    words = [sys.executable, "-c", KILLED, where, hosts.url]
    done = subprocess.run(words, env={**os.environ, "ORCA_LEASE_SECONDS": "1"}, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    if where != "after":
        end_leases(hosts)
    said: list[str] = []
    with hosts.store("b") as other, other.asking({"model": "m"}, said.append), other.in_flight() as sent:
        assert held(other) == (["one"] if where == "journal" else ["one", "two"])
        assert {key: sending.tries for key, sending in sent.open.items()} == {b"flying": 2, b"never sent": 1}
        for key in list(sent.open):
            sent.begin(key, "here", once=False)
            sent.answered(key)
        assert [sent.tell(key) for key in (b"answered", b"flying", b"flying", b"never sent")] == [0, 2, 0, 1]
    assert hosts.keys("sent") == hosts.keys("claims") == hosts.keys("running") == []
    # What only the dead host's journal holds is brought by its next run.
    with hosts.store("a") as again, again.asking({"model": "m"}, quiet):
        assert held(again) == ["one", "two"]


def test_what_a_run_left_behind_stands_behind_what_another_host_bought_meanwhile(
    hosts: Hosts, trace: MakeTrace, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ORCA_CACHE", str(hosts.folder / "a"))
    words = [sys.executable, "-c", KILLED, "journal", hosts.url]
    subprocess.run(words, env={**os.environ, "ORCA_LEASE_SECONDS": "1"}, check=False)
    end_leases(hosts)
    with hosts.store("b") as other, other.asking({"model": "m"}, quiet):
        other.append([trace("Two?", text="bought later", time=1_800_000_000.0)])
    key = trace("Two?").answer.key
    with hosts.store("a") as again, again.asking({"model": "m"}, quiet):
        entry = again.standings([key], LENGTHS)[key].entry
        assert entry is not None
        assert again.read({key: entry})[key].text == "bought later"
        assert held(again) == ["bought later", "one", "two"]


def test_one_host_at_a_time_asks_a_model_and_another_model_waits_for_nobody(hosts: Hosts):
    said: list[str] = []
    with hosts.store("a") as one, one.asking({"model": "m"}, quiet):
        with hosts.store("b") as other, other.asking({"model": "n"}, said.append):
            assert not said
        claims = hosts.keys("claims")
        assert len(claims) == 1
        # As if it had died: the next one takes its place when the lease is over.
        running = [key for key in hosts.keys("running") if json.loads(hosts.objects.get(claims[0]))["builder"] in key]
        hosts.objects.delete(running)
        with hosts.store("b") as other, other.asking({"model": "m"}, said.append):
            assert hosts.keys("claims") == claims


def test_who_slept_past_its_lease_asks_no_more_and_keeps_what_came(
    hosts: Hosts, trace: MakeTrace, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ORCA_LEASE_SECONDS", "60")
    with hosts.store("a") as store, store.asking({"model": "m"}, quiet), store.in_flight() as sent:
        store.may_ask()
        sent.begin(b"flying", "here", once=False)
        clock = time.clock_gettime
        monkeypatch.setattr(time, "clock_gettime", lambda which: clock(which) + 100)
        with pytest.raises(TraceError, match="longer than its lease"):
            store.may_ask()
        monkeypatch.setattr(time, "clock_gettime", clock)
        with pytest.raises(TraceError, match="another may ask in its place"):
            store.may_ask()
        store.append([trace("One?", text="one")])
    with hosts.store("b") as other, other.in_flight() as sent:
        assert held(other) == ["one"]
        assert list(sent.open) == [b"flying"]


def test_what_goes_out_is_written_down_before_it_goes(hosts: Hosts):
    with hosts.store("a") as store, store.in_flight() as sent:
        assert isinstance(sent, SharedSent)
        sent.send(sent.foresee([b"a", b"b"]))
        (key,) = hosts.keys("sent")
        before = hosts.objects.get(key)
        assert before.count(b"tries") == 2
        token = sent.begin(b"a", "here", once=True)
        assert token.encode() in before
        assert hosts.objects.get(key) == before
        assert sent.begin(b"a", "here", once=True) == token
        # A second sending was not foreseen.
        sent.begin(b"b", "here", once=False)
        sent.begin(b"b", "here", once=False)
        assert b'"tries": 2' in hosts.objects.get(key)
        older = sent.foresee([b"c"])
        sent.send(sent.foresee([b"d"]))
        sent.send(older)
        assert hosts.objects.get(key).count(b"tries") == 4
        for name in (b"a", b"b"):
            sent.answered(name)
        assert [sent.tell(name) for name in (b"a", b"b")] == [0, 1]
    assert hosts.keys("sent") == []
    assert GROUP > 0


def test_what_one_host_drops_counts_for_nothing_on_all(hosts: Hosts, trace: MakeTrace):
    with hosts.store("a") as store, hosts.store("b") as other:
        store.append([trace("One?", text="one"), trace("Two?", text="two")])
        assert not any_dropped(other.root)
        other.drop(chosen(other, Choice(keys=(trace("One?").answer.key.hex(),))).places)
        assert held(store) == held(other) == ["two"]
    assert any_dropped(hosts.root("c"))


def test_traces_go_out_of_an_address_and_into_another_place(hosts: Hosts, trace: MakeTrace, tmp_path: Path):
    with hosts.store("a") as store:
        store.append([trace("One?", text="one"), trace("Two?", text="two")])
        with hosts.store("b") as other:
            assert export_traces(other, tmp_path / "all.jsonl") == 2
    with TraceStore(tmp_path / "mine", index=tmp_path / "mine.sqlite") as mine:
        assert import_traces(mine, tmp_path / "all.jsonl").taken == 2
        mine.append([trace("Three?", text="three")])
        export_traces(mine, tmp_path / "more.parquet")
    with hosts.store("b") as other:
        found = import_traces(other, tmp_path / "more.parquet")
        assert (found.taken, found.known) == (1, 2)
    with hosts.store("c") as third:
        assert held(third) == ["one", "three", "two"]


def test_a_place_that_holds_something_else_holds_no_traces(hosts: Hosts):
    hosts.objects.put("mine/notes.txt", b"")
    with pytest.raises(NoStore, match=r"is no trace store and is not empty: it holds mine/notes\.txt"):
        hosts.root("a")


def test_traces_in_a_bucket_that_is_not_there_are_told(bucket: str):
    with pytest.raises(BucketError, match="there is no bucket nowhere-at-all"):
        shared_traces_root("s3://nowhere-at-all/traces")
