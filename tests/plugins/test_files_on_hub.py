"""Files of a data set of the hub by their address, on a hub that runs on this machine."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from huggingface_hub import constants

from orca_plugins.sources.files.kind import Files
from orca_recipes.cli.main import main
from orca_recipes.errors import SourceError
from tests.servers.hub import NOWHERE, Hub, HubSet, lead_to, running

TOKENIZER = Path(__file__).parents[2] / "recipes" / "quickstart" / "tokenizer.json"
OLD, NEW = "0" * 39 + "1", "0" * 39 + "2"


def lines(*questions: str) -> bytes:
    return "".join(json.dumps({"question": one, "answer": f"{one}!"}) + "\n" for one in questions).encode()


def zipped(**members: bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as made:
        for name, text in members.items():
            made.writestr(name, text)
    return data.getvalue()


FILES = {
    "README.md": b"# Rows",
    "data/a.jsonl": lines("a"),
    "data/b[1].jsonl": lines("b"),
    "data/in/c.jsonl": lines("c"),
    "data/x.bin": b"x",
    "all.zip": zipped(**{"in/d.jsonl": lines("d")}),
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one data set, "org/name", that moved on from OLD to NEW; the caches are this test's own."""
    before = {**FILES, "data/a.jsonl": lines("old")}
    held = HubSet({"main": NEW, "before": OLD, "refs/convert/parquet": OLD}, {NEW: FILES, OLD: before})
    with running(Hub({"org/name": held})) as hub:
        lead_to(hub.address, monkeypatch)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


def settled(path: str, *, versions: dict[str, str] | None = None, insist: bool = False) -> Files:
    address = Path(f"hf://datasets/{path}")
    return Files(path=address).settled(files=[], versions=versions or {}, insist=insist)


def questions(source: Files) -> list[str]:
    readings = [reading for piece in source.slices(slice_bytes=1 << 20) for reading in source.read(slice=piece)]
    return [question for reading in readings for question in reading.rows["question"].to_list()]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("org/name/data/a.jsonl", ["a"]),
        ("org/name@main/data/b[[]1].jsonl", ["b"]),
        (f"org/name@{OLD}/data/a.jsonl", ["old"]),
        ("org/name@before/data/a.jsonl", ["old"]),
        ("org/name@refs/convert/parquet/data/a.jsonl", ["old"]),
        ("org/name@refs%2Fconvert%2Fparquet/data/a.jsonl", ["old"]),
        ("org/name/data", ["a", "b"]),
        ("org/name/data/*.jsonl", ["a", "b"]),
        ("org/name/data/**/*.jsonl", ["a", "b", "c"]),
        ("org/name/all.zip/in/*.jsonl", ["d"]),
    ],
)
def test_files_of_a_data_set_are_read_by_their_address(hub: Hub, path: str, found: list[str]):
    assert questions(settled(path)) == found


def test_the_lock_keeps_commit_and_etags_and_what_it_means_is_read_without_the_hub(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = settled("org/name/data/a.jsonl")
    pins = dict(first.pins())
    assert (pins["revision"], sorted(pins)) == (NEW, ["etag of data/a.jsonl", "revision"])
    hub.sets["org/name"].branches["main"] = OLD
    assert questions(settled("org/name/data/a.jsonl", versions=pins)) == ["old"]
    lead_to(NOWHERE, monkeypatch)
    assert questions(settled("org/name/data/a.jsonl", versions=pins)) == ["a"]
    assert questions(settled("org/name/data/a.jsonl", versions=pins, insist=True)) == ["a"]
    lead_to(hub.address, monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    assert questions(settled("org/name/data/a.jsonl", versions=pins, insist=True)) == ["a"]


def test_a_file_is_loaded_once_whatever_the_commit(hub: Hub):
    assert questions(settled("org/name@before/data/in/c.jsonl")) == ["c"]
    loaded = sum(line.startswith("GET") and "/resolve/" in line for line in hub.asked)
    assert questions(settled("org/name/data/in/c.jsonl")) == ["c"]
    assert sum(line.startswith("GET") and "/resolve/" in line for line in hub.asked) == loaded == 1


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("org/none/a.jsonl", "the hub has no data set org/none, or it is private: check the name, or run `hf auth"),
        ("org/name@no/a.jsonl", "org/name has no revision no on the hub"),
        ("org/name/none.jsonl", "org/name/none.jsonl: there is no such file of the data set, and none below it"),
        ("org/name/data/*.csv", r"data/\*.csv: no file of the data set matches this pattern"),
    ],
)
def test_what_the_hub_does_not_have_is_one_sentence(hub: Hub, path: str, said: str):
    with pytest.raises(SourceError, match=said):
        settled(path)


def test_a_private_and_a_gated_data_set_are_read_with_the_users_token(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    hub.sets["org/hidden"] = HubSet({"main": NEW}, {NEW: FILES}, hidden=True)
    hub.sets["org/gated"] = HubSet({"main": NEW}, {NEW: FILES}, gated=True)
    with pytest.raises(SourceError, match="the hub has no data set org/hidden, or it is private"):
        settled("org/hidden/data/a.jsonl")
    with pytest.raises(SourceError, match="org/gated asks for consent: accept its terms on the hub"):
        settled("org/gated/data/a.jsonl")
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert questions(settled("org/hidden/data/a.jsonl")) == ["a"]
    assert questions(settled("org/gated/data/a.jsonl")) == ["a"]


def test_without_a_network_it_is_one_sentence(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    lead_to(NOWHERE, monkeypatch)
    with pytest.raises(SourceError, match=r"org/name at main cannot be had from the hub \(.*; connect once, or read"):
        settled("org/name/data/a.jsonl")


def test_a_first_recipe_reads_a_file_of_the_hub_and_its_lock_keeps_the_commit(hub: Hub, tmp_path: Path):
    rows = [{"instruction": f"Add {n}", "input": "", "output": str(n)} for n in range(30)]
    told = "".join(json.dumps(row) + "\n" for row in rows).encode()
    hub.sets["org/alpaca"] = HubSet({"main": NEW}, {NEW: {"data/rows.jsonl": told}})
    recipe, address = tmp_path / "r.toml", "hf://datasets/org/alpaca/data/rows.jsonl"
    made = CliRunner().invoke(main, ["init", address, "-o", str(recipe), "--tokenizer", str(TOKENIZER)])
    assert made.exit_code == 0, made.output
    assert f'path = "{address}"' in recipe.read_text()
    places = ["--store", str(tmp_path / "store"), "--out", str(tmp_path / "out")]
    built = CliRunner().invoke(main, ["build", str(recipe), *places])
    assert built.exit_code == 0, built.output
    assert NEW in (tmp_path / "r.lock").read_text()
