"""Tasks for machines that see no folder of ours: names travel in place of paths, and files over the address."""

import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest

from orca_recipes.objects.objects import Objects
from orca_recipes.store.carried_tasks import carry_out, places_of
from orca_recipes.store.shared_store import SENT, shared_root
from orca_recipes.store.stage_folder import PartWriter
from orca_recipes.store.store import Store


@dataclass(frozen=True)
class Joining:
    """Read a file of the store, keep a part beside it, and write a file of a build."""

    file: Path
    folder: Path
    shard: Path


def join(task: Joining) -> dict[Path, int]:
    data = task.file.read_bytes()
    writer = PartWriter(task.folder, "part")
    writer.path(".arrow").write_bytes(data * 2)
    writer.keep([".arrow"], {"out": 2})
    task.shard.write_bytes(data * 3)
    return {task.shard: len(data) * 3, task.file: len(data)}


def test_a_task_finds_and_leaves_on_another_machine_what_its_paths_name(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    url = f"s3://{bucket}/store"
    monkeypatch.setenv("ORCA_CACHE", str(tmp_path / "ours"))
    root = shared_root(url)
    made, making, build = root / "stages" / "read-a", root / "stages" / "tokenize-a", tmp_path / "build"
    for folder in (made, making, build):
        folder.mkdir(parents=True)
    writer = PartWriter(made, "rows")
    writer.path(".arrow").write_bytes(b"ab")
    writer.keep([".arrow"], {"out": 1})
    places = places_of(root, build)
    assert places is not None
    carried = places.carried(join, [Joining(made / "rows.arrow", making, build / "00000.bin")])

    monkeypatch.setenv("ORCA_CACHE", str(tmp_path / "theirs"))
    back = pickle.loads(pickle.dumps(carry_out(carried[0])))
    assert not list(making.iterdir())
    assert len(Objects.at(url).listed(SENT)) == 1

    assert places.brought(back) == {build / "00000.bin": 6, made / "rows.arrow": 2}
    assert (build / "00000.bin").read_bytes() == b"ababab"
    assert not Objects.at(url).listed(SENT)


def test_a_store_in_a_folder_is_no_place_for_other_machines(tmp_path: Path):
    assert places_of(Store(tmp_path / "store").root) is None
