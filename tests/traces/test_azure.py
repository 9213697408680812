"""A store, traces and a build in Azure's blobs, by the emulator of its makers where that is installed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from orca_recipes.errors import BucketError
from orca_recipes.front.opened import open_build
from orca_recipes.front.recipe import load_recipe
from orca_recipes.objects.objects import Objects
from orca_recipes.run.build import build
from orca_recipes.store.claims import quiet
from orca_recipes.store.leases import Leases
from orca_recipes.traces.shared_traces import shared_traces_root
from orca_recipes.traces.trace_store import TraceStore
from tests.run.small import Heard, asked
from tests.run.small_recipe import make_recipe
from tests.servers.azurite import command, environment, new_container, serving_azure


@pytest.fixture(scope="module")
def azure() -> Iterator[str]:
    program = command()
    if program is None:
        pytest.skip("azurite-blob is not installed (npm install azurite; ORCA_AZURITE names it)")
    with serving_azure(program) as address:
        yield address


@pytest.fixture
def place(azure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in {**environment(azure), "ORCA_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    return f"az://{new_container(azure)}/place"


def test_writes_are_conditional_and_claims_are_of_one(place: str) -> None:
    objects = Objects.at(place)
    assert objects.create("a", b"1")
    assert not objects.create("a", b"2")
    seen = objects.head("a")
    assert seen is not None
    assert objects.replace("a", b"3", seen)
    assert not objects.replace("a", b"4", seen)
    assert objects.get("a") == b"3"
    one, other = Leases(objects), Leases(objects)
    with one.claimed("stage", quiet, "waiting"):
        builder = one.builder
        assert other.is_alive(builder)
    with other.claimed("stage", quiet, "waiting"):
        one.drop()
        assert not other.is_alive(builder)
    with pytest.raises(BucketError, match="there is no container nowhere"):
        Objects.at("az://nowhere/place").check()


def test_answers_are_kept_and_found(place: str, tmp_path: Path, trace) -> None:
    with TraceStore(shared_traces_root(place), index=tmp_path / "index") as store:
        store.append([trace("One?", text="one")])
        store.append([trace("Two?", text="two")])
    assert len(Objects.at(place).listed("segments")) == 1
    with TraceStore(shared_traces_root(place), index=tmp_path / "other") as store:
        store.refresh()
        assert sorted(each.answer.text for each in store.traces()) == ["one", "two"]


def test_a_build_has_the_bytes_of_one_on_a_disk(place: str, tmp_path: Path) -> None:
    recipe = make_recipe(tmp_path / "recipe")
    made = load_recipe(recipe).build(store=f"{place}/store", out=f"{place}/out", workers=1)
    assert made.digest == build(asked(recipe), Heard())[0].data_digest
    assert open_build(f"{place}/out").verify().is_sound
