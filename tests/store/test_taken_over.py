"""Parts of earlier stages are taken over by link, under a name of what they hold, and only whole."""

from pathlib import Path

from orca_recipes.store.stage_folder import PartWriter, StageFolder
from orca_recipes.store.taken_over import is_taken, take_over


def stage(folder: Path, data: bytes) -> StageFolder:
    folder.mkdir()
    writer = PartWriter(folder, "part")
    writer.path(".bin").write_bytes(data)
    writer.path(".told").write_bytes(b"told")
    writer.keep([".bin", ".told"], {"tokens": 3})
    return StageFolder(folder)


def test_a_part_is_linked_under_the_name_of_what_it_holds(tmp_path: Path) -> None:
    earlier, target = stage(tmp_path / "earlier", b"tokens"), tmp_path / "target"
    target.mkdir()
    name = take_over(earlier, "part", target, [".bin"])
    assert name is not None
    assert is_taken(name)
    assert not is_taken("part")
    assert StageFolder(target).has_part(name)
    assert StageFolder(target).part(name).report == {"tokens": 3}
    assert (target / f"{name}.bin").samefile(earlier.path / "part.bin")
    assert not (target / f"{name}.told").exists()
    assert take_over(earlier, "part", target, [".bin"]) == name
    again = tmp_path / "again"
    again.mkdir()
    assert take_over(StageFolder(target), name, again, [".bin"]) == name


def test_a_part_that_is_damaged_or_gone_is_not_taken(tmp_path: Path) -> None:
    earlier, target = stage(tmp_path / "earlier", b"tokens"), tmp_path / "target"
    target.mkdir()
    (earlier.path / "part.bin").write_bytes(b"tokenx")
    assert take_over(earlier, "part", target, [".bin"]) is None
    (earlier.path / "part.bin").unlink()
    assert take_over(earlier, "part", target, [".bin"]) is None
    (earlier.path / "part.json").unlink()
    assert take_over(earlier, "part", target, [".bin"]) is None
    assert list(target.iterdir()) == []
