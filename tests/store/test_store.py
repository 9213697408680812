"""Where finished stages live."""

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest

from orca_recipes.errors import StoreError
from orca_recipes.plan.stages import PlanBuilder, Stage
from orca_recipes.store import claims
from orca_recipes.store.stage_folder import PartWriter, StageFolder
from orca_recipes.store.store import Store


def stage(name: str) -> Stage:
    builder = PlanBuilder()
    added = builder.add("read", name, kind="", decisive={})
    return builder.plan()[added]


def finished(store: Store, name: str) -> StageFolder:
    with store.working_on(stage(name)) as folder:
        writer = PartWriter(folder.path, "part")
        writer.path(".arrow").write_bytes(b"columns")
        writer.keep([".arrow"], {"rows": 3})
        folder.finish(["part"], {"out": 3})
    return folder


def test_a_part_is_there_only_when_it_was_kept(tmp_path: Path):
    store = Store(tmp_path)
    with store.working_on(stage("cot")) as folder:
        writer = PartWriter(folder.path, "part")
        writer.path(".arrow").write_bytes(b"half")
        assert not folder.has_part("part")
        writer.keep([".arrow"], {})
        assert folder.has_part("part")
        assert not folder.finished


def test_a_finished_stage_says_what_it_holds(tmp_path: Path):
    folder = finished(Store(tmp_path), "cot")
    assert folder.finished
    assert folder.receipt["report"] == {"out": 3}
    assert [part.report for part in folder.parts()] == [{"rows": 3}]


def test_a_stage_that_lost_a_file_is_finished_no_longer(tmp_path: Path):
    folder = finished(Store(tmp_path), "cot")
    folder.parts()[0].file(".arrow").write_bytes(b"short")
    assert not folder.finished


def test_finishing_drops_what_an_interrupted_build_left(tmp_path: Path):
    store = Store(tmp_path)
    with store.working_on(stage("cot")) as folder:
        (folder.path / ".part-of-another-size.arrow").write_bytes(b"left over")
    finished(store, "cot")
    assert sorted(path.name for path in folder.path.iterdir()) == ["part.arrow", "part.json", "receipt.json"]


def test_clean_keeps_what_a_living_build_uses(tmp_path: Path):
    store, directory = Store(tmp_path / "store"), tmp_path / "build"
    kept, dropped = finished(store, "cot"), finished(store, "niv2")
    directory.mkdir()
    (directory / "manifest.json").write_text("{}")
    store.remember_build(directory, {"folders": [kept.path.name], "stages": {}})
    removed, freed = store.clean()
    assert (removed, kept.finished, dropped.path.exists()) == (1, True, False)
    assert freed > 0
    (directory / "manifest.json").unlink()
    assert store.clean()[0] == 1
    assert not kept.path.exists()


def test_a_broken_receipt_is_one_sentence(tmp_path: Path):
    folder = finished(Store(tmp_path), "cot")
    (folder.path / "receipt.json").write_text("{half")
    with pytest.raises(StoreError, match="cannot be read"):
        folder.receipt["report"]


def test_a_store_that_cannot_be_written_says_what_to_do(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="--store or ORCA_STORE"):
        Store(tmp_path / "file" / "store")


def test_the_record_of_a_build_can_be_asked_for(tmp_path: Path):
    store = Store(tmp_path)
    assert store.last_build(tmp_path / "build") is None
    store.remember_build(tmp_path / "build", {"folders": [], "stages": {"read cot": {}}})
    record = store.last_build(tmp_path / "build")
    assert record is not None
    assert json.dumps(record["stages"]) == '{"read cot": {}}'


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda path: path.unlink(), "part.arrow is missing"),
        (lambda path: path.write_bytes(b"short"), "part.arrow has 5 bytes, not 7"),
        (lambda path: path.write_bytes(b"COLUMNS"), "part.arrow holds other bytes than were written"),
        (lambda path: path.with_suffix(".json").unlink(), "part.json is missing"),
        (lambda path: path.with_suffix(".json").write_text("{}"), "part.json is damaged"),
        (lambda path: (path.parent / "receipt.json").write_text("[]"), "receipt.json is damaged"),
    ],
)
def test_damage_is_found_named_and_opens_the_stage_again(tmp_path: Path, harm, told: str):
    folder = finished(Store(tmp_path), "cot")
    harm(folder.path / "part.arrow")
    said: list[str] = []
    assert not folder.is_sound("read cot", said.append)
    assert said == [f"read cot: damaged in the store ({told}); what is damaged is made again"]
    assert not folder.published
    assert finished(Store(tmp_path), "cot").is_sound("read cot", said.append)
    assert len(said) == 1


def test_a_receipt_edited_by_hand_is_damage(tmp_path: Path):
    folder = finished(Store(tmp_path), "cot")
    receipt = folder.path / "receipt.json"
    receipt.write_text(receipt.read_text().replace('"out": 3', '"out": 4'))
    assert folder.faults() == ["receipt.json is damaged"]
    with pytest.raises(StoreError, match="changed since it was written"):
        folder.receipt["report"]


def write_half_a_part(writer: PartWriter) -> None:
    writer.path(".arrow").write_bytes(b"half")
    writer.keep([".idx"], {})


def test_half_written_files_give_their_room_back(tmp_path: Path):
    writer = PartWriter(Store(tmp_path).folder(stage("cot")).path, "part")
    with pytest.raises(FileNotFoundError), Store(tmp_path).working_on(stage("cot")):
        write_half_a_part(writer)
    assert list(writer.folder.iterdir()) == []


def test_a_worker_that_outlives_its_build_writes_under_names_of_its_own(tmp_path: Path):
    script = (
        "import sys; from pathlib import Path; from orca_recipes.store.stage_folder import PartWriter\n"
        "print(PartWriter(Path(sys.argv[1]), 'part').path('.arrow'))"
    )
    other = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert other.stdout.strip() != str(PartWriter(tmp_path, "part").path(".arrow"))


def test_a_build_that_waits_for_another_says_for_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(claims, "PATIENCE_SECONDS", 0.01)
    store = Store(tmp_path)
    other = store.working_on(stage("cot"))
    other.__enter__()
    said: list[str] = []

    def hear(sentence: str) -> None:
        said.append(sentence)
        other.__exit__(None, None, None)

    with Store(tmp_path).working_on(stage("cot"), hear):
        pass
    assert said == ["waiting for another build, which makes read cot"]


def test_lock_files_of_builds_that_ended_are_harmless(tmp_path: Path):
    folder = finished(Store(tmp_path), "cot")
    for path in (tmp_path / "locks").iterdir():
        path.write_text("4711 of another machine")
    (tmp_path / "running" / "0123456789abcdef.lock").write_text("")
    (tmp_path / "running" / "0123456789abcdef.json").write_text(json.dumps({"folders": [folder.path.name]}))
    assert finished(Store(tmp_path), "cot").finished
    assert Store(tmp_path).clean()[0] == 1
    assert [path.name for path in (tmp_path / "running").iterdir()] == ["door"]


def test_clean_leaves_what_a_running_build_needs(tmp_path: Path):
    running = Store(tmp_path)
    made = finished(running, "cot")
    running.claim([stage("niv2")])
    needed = finished(Store(tmp_path), "niv2")
    other = finished(Store(tmp_path), "t0")
    assert Store(tmp_path).clean(keep_nothing=True)[0] == 1
    assert (made.finished, needed.finished, other.path.exists()) == (True, True, False)
    del running
    gc.collect()
    assert [path.name for path in (tmp_path / "running").iterdir()] == ["door"]
    assert Store(tmp_path).clean()[0] == 2


def test_clean_waits_for_no_build_and_a_build_waits_for_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(claims, "PATIENCE_SECONDS", 0.01)
    said: list[str] = []
    with Store(tmp_path).working_on(stage("cot")) as folder:
        assert Store(tmp_path).clean(say=said.append) == (0, 0)
        assert folder.path.is_dir()
    cleaning = claims.Claims(tmp_path / "running").door(claims.quiet)
    cleaning.__enter__()

    def hear(sentence: str) -> None:
        said.append(sentence)
        cleaning.__exit__(None, None, None)

    Store(tmp_path).claim([stage("cot")], hear)
    assert said == ["waiting for `orca-recipe clean`, which works on the same store"]


def test_a_damaged_record_of_a_build_costs_time_and_nothing_else(tmp_path: Path):
    store = Store(tmp_path / "store")
    finished(store, "cot")
    store.remember_build(tmp_path / "build", {"folders": [], "stages": {}})
    (record,) = (tmp_path / "store" / "builds").iterdir()
    record.write_text("half {")
    assert store.last_build(tmp_path / "build") is None
    assert store.clean()[0] == 1
    assert not record.exists()


def test_stages_of_which_the_store_holds_nothing_cost_no_look_at_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    looked: list[Path] = []
    asked = vars(StageFolder)["finished"].fget
    monkeypatch.setattr(StageFolder, "finished", property(lambda folder: looked.append(folder.path) or asked(folder)))
    store = Store(tmp_path)
    made = finished(store, "cot")
    looked.clear()
    assert store.finished([stage("cot"), *(stage(f"c{place}") for place in range(20))]) == {"read cot"}
    assert looked == [made.path]
