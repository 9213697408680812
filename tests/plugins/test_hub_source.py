"""A data set of the hub, on a hub that runs on this machine, through `huggingface_hub` and `datasets` as they are."""

import io
import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from huggingface_hub import constants
from pydantic import ValidationError

from orca_plugins.sources.flan.kind import Flan
from orca_plugins.sources.hub.kind import Hub as HubSource
from orca_recipes.cli.main import main
from orca_recipes.contract.kinds import Reading, Source
from orca_recipes.contract.testing import check_source
from orca_recipes.errors import SourceError
from tests.servers.hub import NOWHERE, Hub, HubSet, lead_to, running

OLD, NEW = "0" * 39 + "1", "0" * 39 + "2"
COLUMNS = {"question": "q", "answer": "a"}


def parquet(*rows: tuple[str, str]) -> bytes:
    data = io.BytesIO()
    pl.DataFrame(rows, schema=["q", "a"], orient="row").write_parquet(data)
    return data.getvalue()


def lines(*rows: Mapping[str, str]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


FILES = {
    "README.md": b"---\nconfigs:\n- config_name: default\n  data_files:\n  - {split: train, path: 'data/train-*'}\n"
    b"  - {split: test, path: 'data/test-*'}\n---\n",
    "data/train-0.parquet": parquet(("one", "1"), ("two", "2")),
    "data/train-1.parquet": parquet(("three", "3")),
    "data/test-0.parquet": parquet(("four", "4")),
    "more.jsonl": lines({"q": "five", "a": "5"}),
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one data set, "org/name", that moved on from OLD to NEW; the cache is this test's own."""
    import datasets

    held = HubSet(
        {"main": NEW, "before": OLD}, {NEW: FILES, OLD: {**FILES, "more.jsonl": lines({"q": "old", "a": "0"})}}
    )
    with running(Hub({"org/name": held})) as hub:
        lead_to(hub.address, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets-cache")
        yield hub


def settled(
    source: Source, files: tuple[str, ...] = (), *, insist: bool = False, revision: str | None = None
) -> Source:
    versions = {"revision": revision} if revision else {}
    return source.settled(files=files, versions=versions, insist=insist)


def read(source: Source) -> list[Reading]:
    return [reading for slice in source.slices(slice_bytes=1 << 20) for reading in source.read(slice=slice)]


def questions(source: Source) -> list[str]:
    return [question for reading in read(source) for question in reading.rows["question"]]


@pytest.mark.parametrize("streaming", [False, True])
def test_keys_that_would_be_lost_reject_a_row_of_the_hub_unless_it_leaves_them_out(hub, streaming):
    ask = {"role": "user", "content": "q", "mood": None, "weight": None}
    answers = [{"role": "assistant", "content": "a", "mood": mood, "weight": 1} for mood in (None, "sad")]
    rows = io.BytesIO()
    pq.write_table(pa.table({"messages": [[ask, answer] for answer in answers], "tools": ["", "[]"]}), rows)
    hub.sets["org/chats"] = HubSet({"main": NEW}, {NEW: {"train.parquet": rows.getvalue()}})
    (reading,) = read(settled(HubSource(name="org/chats", streaming=streaming)))
    sentence = 'messages: "mood" would be lost; ignore_keys = ["mood"] reads such rows without it'
    assert (reading.rows["place"].to_list(), reading.rejected.rows()) == ([1], [(2, sentence)])
    (reading,) = read(settled(HubSource(name="org/chats", streaming=streaming, ignore_keys=("mood",))))
    assert reading.rows["messages"].list.last().struct.field("trained").to_list() == [True, True]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_split_is_read_with_columns_as_the_recipe_names_them(hub, streaming):
    source = settled(HubSource(name="org/name", columns=COLUMNS, streaming=streaming))
    assert questions(source) == ["one", "two", "three"]
    assert dict(source.pins())["revision"] == NEW
    test = HubSource(name="org/name", split="test", columns=COLUMNS, streaming=streaming)
    assert [reading.rows.select("answer", "place").rows() for reading in read(settled(test))] == [[("4", 1)]]


def test_a_configuration_of_a_data_set_is_read(hub):
    files = {
        "README.md": b"---\nconfigs:\n- {config_name: more, data_files: more.jsonl}\n---\n",
        "more.jsonl": FILES["more.jsonl"],
    }
    hub.sets["org/more"] = HubSet({"main": OLD}, {OLD: files})
    for streaming in (False, True):
        source = HubSource(name="org/more", config="more", columns=COLUMNS, streaming=streaming)
        assert questions(settled(source)) == ["five"]


def test_files_are_named_as_in_the_data_set_and_loaded_once(hub):
    source = settled(HubSource(name="org/name", columns=COLUMNS))
    assert [file.name for file in source.files()] == ["data/train-0.parquet", "data/train-1.parquet"]
    before = len(hub.asked)
    assert questions(source) == ["one", "two", "three"]
    assert len(hub.asked) == before


def test_files_can_be_chosen_by_pattern_without_datasets(hub):
    assert questions(settled(HubSource(name="org/name", data_files="data/te*", columns=COLUMNS))) == ["four"]
    some = HubSource(name="org/name", data_files=("more.jsonl", "data/*-0.parquet"), columns=COLUMNS)
    assert sorted(questions(settled(some))) == ["five", "four", "one", "two"]
    with pytest.raises(SourceError, match=r"has no file of a known format that matches x\*; it has README.md, data/te"):
        settled(HubSource(name="org/name", data_files="x*"))


def test_a_branch_is_pinned_to_the_commit_that_it_stands_for(hub):
    moving = HubSource(name="org/name", hub_revision="before", data_files="more.jsonl", columns=COLUMNS)
    assert dict(settled(moving).pins()) == {"revision": OLD}
    assert questions(settled(moving)) == ["old"]
    hub.sets["org/name"].branches["before"] = NEW
    assert dict(settled(moving).pins()) == {"revision": NEW}
    kept = settled(moving, ("more.jsonl",), revision=OLD, insist=True)
    assert (dict(kept.pins()), questions(kept)) == ({"revision": OLD}, ["old"])


def test_without_the_hub_the_locked_commit_is_read_from_the_cache(hub, monkeypatch):
    moving = HubSource(name="org/name", columns=COLUMNS)
    online = settled(moving)
    names = tuple(file.name for file in online.files())
    lead_to(NOWHERE, monkeypatch)
    offline = settled(moving, names, revision=NEW)
    assert offline == online
    assert questions(offline) == ["one", "two", "three"]


def test_without_the_hub_and_without_a_cache_it_is_one_sentence(hub, monkeypatch):
    lead_to(NOWHERE, monkeypatch)
    with pytest.raises(SourceError, match=r"org/name at main cannot be had .*, nor is it in the cache; connect once"):
        settled(HubSource(name="org/name"))
    with pytest.raises(SourceError, match="connect once"):
        settled(HubSource(name="org/name", data_files="more.jsonl"), ("more.jsonl",), revision=OLD)


def test_what_the_hub_does_not_have_is_told_in_a_sentence(hub):
    with pytest.raises(SourceError, match="the hub has no data set org/other, or it is private"):
        settled(HubSource(name="org/other"))
    with pytest.raises(SourceError, match="org/name has no revision v9 on the hub"):
        settled(HubSource(name="org/name", hub_revision="v9"))
    with pytest.raises(SourceError, match="org/name has no split dev; it has train, test"):
        settled(HubSource(name="org/name", split="dev"))
    with pytest.raises(SourceError, match=r"org/name \(less\), split train: cannot be had from the hub"):
        settled(HubSource(name="org/name", config="less"))
    with pytest.raises(SourceError, match='no column "b" for answer; the file has: q, a'):
        read(settled(HubSource(name="org/name", columns={"question": "q", "answer": "b"})))
    with pytest.raises(SourceError, match='no column "b" for answer; the file has: q, a'):
        read(settled(HubSource(name="org/name", columns={"question": "q", "answer": "b"}, streaming=True)))


@pytest.mark.parametrize(
    "options",
    [
        {"name": "../etc"},
        {"name": "a/b/c"},
        {"columns": {"questoin": "q"}},
        {"data_files": ["x"], "config": "y"},
        {"data_files": ["x"], "streaming": True},
        {"data_files": []},
    ],
    ids=str,
)
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(ValidationError):
        HubSource.model_validate_json(json.dumps({"kind": "hub", "name": "org/name", **options}))


def test_the_source_keeps_its_promises(hub, tmp_path):
    check_source(settled(HubSource(name="org/name", columns=COLUMNS)), tmp_path)


def test_flan_can_be_read_from_the_hub(hub):
    row = {"inputs": "a", "targets": "b", "task_source": "P3", "task_name": "t", "template_type": "zs_opt"}
    files = {
        "data/train.jsonl": lines(row),
        "cot_fsopt_data/x.jsonl": lines({"inputs": "c", "targets": "d"}),
        "x.md": b"",
    }
    hub.sets["org/flan"] = HubSet({"main": OLD}, {OLD: files})
    source = settled(Flan(submix="t0", hub="org/flan", templates=("zs",)))
    assert ([file.name for file in source.files()], questions(source)) == (["data/train.jsonl"], ["a"])
    assert dict(source.pins()) == {"revision": OLD}


def test_what_is_settled_asks_the_hub_no_more(hub):
    for source in (HubSource(name="org/name", columns=COLUMNS), HubSource(name="org/name", streaming=True)):
        once = settled(source)
        before = len(hub.asked)
        assert settled(once) == once
        assert len(hub.asked) == before


def test_a_text_that_datasets_makes_a_time_of_is_told_with_the_way_out(hub):
    rows = lines({"q": "2024-01-01T00:00:00", "a": "x"})
    hub.sets["org/times"] = HubSet({"main": NEW}, {NEW: {"train.jsonl": rows}})
    with pytest.raises(SourceError, match=r"has type timestamp.*: streaming = false reads the files as they are"):
        read(settled(HubSource(name="org/times", columns=COLUMNS, streaming=True)))
    source = settled(HubSource(name="org/times", columns=COLUMNS))
    assert questions(source) == ["2024-01-01T00:00:00"]
    assert source.unused_columns() == []


def test_a_first_recipe_is_written_for_a_data_set_of_the_hub(hub, tmp_path: Path):
    rows = lines({"instruction": "Translate", "input": "good morning", "output": "bonjour"})
    hub.sets["org/pairs"] = HubSet({"main": NEW}, {NEW: {"train.jsonl": rows, "z/train.jsonl": rows}})
    done = CliRunner().invoke(main, ["init", "org/pairs", "-o", str(tmp_path / "r.toml"), "--json"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["shape"] == "alpaca"
    table = tomllib.loads((tmp_path / "r.toml").read_text())["collections"]["pairs"]
    assert table == {"kind": "hub", "name": "org/pairs", "shape": "alpaca"}
    missing = CliRunner().invoke(main, ["init", "org/nowhere", "-o", str(tmp_path / "s.toml")])
    assert (missing.exit_code, (tmp_path / "s.toml").exists()) == (2, False)
    assert "no data set org/nowhere" in missing.stderr
