"""Exporting a build: what is refused, what is counted, and that the same bytes come out."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from tokenizers import Tokenizer, models

from orca_plugins.exporters.bridge import Bridge
from orca_plugins.exporters.hf import HF
from orca_recipes.catalogue import Catalogue
from orca_recipes.contract.exporter import BuildToExport, Exporter, Shards, ShardToExport, Written
from orca_recipes.errors import DamagedShard, ExportError, PluginError
from orca_recipes.export.end_of_text import end_of_text_id, token_id
from orca_recipes.export.export import Exported, export
from orca_recipes.export.whole_shards import WholeShards
from orca_recipes.progress import Progress
from orca_recipes.shards.digests import file_digest
from orca_recipes.shards.manifest import read_manifest
from tests.patience import awaited


def exported(build: Path, exporter: Exporter, out: Path, *datasets: str) -> Exported:
    return export(build, exporter, out=out, datasets=datasets, kinds=Catalogue(), progress=Progress())


def orca(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orca_recipes.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


class Forgetful(Exporter):
    """Writes nothing and loses a label.

    kind = "forgetful"
    """

    title: ClassVar[str] = "nobody"
    kind: Literal["forgetful"] = "forgetful"

    def write(self, *, build: BuildToExport, shard: ShardToExport, folder: Path) -> Written:
        return Written(trained_labels=sum(int(block.labelled.sum()) for block in shard.blocks) - 1)

    def settings(self, *, build: BuildToExport, shards: Shards) -> str:
        return "None."


class Interrupted(Forgetful):
    """Is killed in the middle.

    kind = "interrupted"
    """

    def write(self, *, build: BuildToExport, shard: ShardToExport, folder: Path) -> Written:
        (folder / "half").write_text("half")
        raise KeyboardInterrupt


def test_the_command_tells_files_digests_and_labels(quickstart: Path, tmp_path: Path):
    done = orca("export", quickstart, "--to", "hf", "--out", "out", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    promised = read_manifest(quickstart).datasets["main"]
    assert told["trained_labels"] + sum(told["lost_labels"].values()) == promised.trained_tokens
    assert (told["examples"], told["tokens"]) == (promised.examples, promised.tokens)
    for file in told["files"]:
        assert file_digest(tmp_path / "out" / file["path"]) == file["digest"]
        assert (tmp_path / "out" / file["path"]).stat().st_size == file["bytes"]
    held = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert held == {"export.json", *(file["path"] for file in told["files"])}
    assert "export main: 400 examples" in done.stderr


def test_exporting_twice_gives_the_same_digests(quickstart: Path, tmp_path: Path):
    first, second = (exported(quickstart, HF(), tmp_path / name) for name in ("one", "two"))
    assert first.files == second.files


def test_datasets_are_folders_and_may_be_chosen(sums: Path, tmp_path: Path):
    both = exported(sums, HF(), tmp_path / "both")
    odds = exported(sums, HF(), tmp_path / "odds", "odds")
    promised = read_manifest(sums).datasets
    assert both.trained_labels == sum(dataset.trained_tokens for dataset in promised.values())
    assert odds.trained_labels == promised["odds"].trained_tokens
    assert not (tmp_path / "odds" / "sums").exists()
    with pytest.raises(ExportError, match='has no dataset "od"; did you mean "odds"'):
        exported(sums, HF(), tmp_path / "none", "od")


def test_a_damaged_build_is_refused_before_anything_is_written(quickstart: Path, tmp_path: Path):
    broken = tmp_path / "build"
    shutil.copytree(quickstart, broken)
    file = broken / "main" / "00001.bin"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(DamagedShard, match=r"00001\.bin: its digest is .*build it again"):
        exported(broken, HF(), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["build"]


@pytest.mark.parametrize("held", ["mine.txt", "export.json", ".hidden"])
def test_a_folder_that_is_not_empty_is_refused_and_stands(quickstart: Path, tmp_path: Path, held: str):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / held).write_text("mine")
    done = orca("export", quickstart, "--to", "hf", "--out", "out", cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "--out" in done.stderr
    assert (tmp_path / "out" / held).read_text() == "mine"


def test_an_empty_folder_is_filled_and_a_file_is_refused(quickstart: Path, tmp_path: Path):
    (tmp_path / "out").mkdir()
    exported(quickstart, HF(), tmp_path / "out")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ExportError, match="is a file"):
        exported(quickstart, HF(), tmp_path / "file")


def test_an_export_that_stops_leaves_nothing(quickstart: Path, tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        exported(quickstart, Interrupted(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_export_left_is_removed_by_the_next(quickstart: Path, tmp_path: Path):
    script = (
        "import sys, time, pathlib\n"
        "from tests.export.test_export import Forgetful, exported\n"
        "class Slow(Forgetful):\n"
        "    def write(self, *, build, shard, folder):\n"
        "        (folder / 'half').write_text('half')\n"
        "        time.sleep(600)\n"
        "exported(pathlib.Path(sys.argv[1]), Slow(), pathlib.Path(sys.argv[2]))\n"
    )
    home = Path(__file__).parents[2]
    place = tmp_path / "out"
    running = subprocess.Popen([sys.executable, "-c", script, quickstart, place], cwd=home)
    try:
        awaited(lambda: bool(list(tmp_path.glob(".out.*.building/half"))))
        with pytest.raises(ExportError, match="another export is writing it"):
            exported(quickstart, HF(), place)
    finally:
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    assert not place.exists()
    exported(quickstart, HF(), place)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


class Watched(HF):
    """Tells which shards it writes, and stays in the second as long as a file lies beside the export."""

    def write(self, *, build: BuildToExport, shard: ShardToExport, folder: Path) -> Written:
        print(shard.number, flush=True)
        if shard.number == 1 and (folder.parent / "hold").exists():
            (folder / shard.dataset.name / "half").write_text("half")
            time.sleep(600)
        return super().write(build=build, shard=shard, folder=folder)


def test_a_killed_export_goes_on_behind_its_whole_shards(
    quickstart: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    undisturbed = exported(quickstart, Watched(), tmp_path / "undisturbed")
    script = (
        "import sys, pathlib\nfrom tests.export.test_export import Watched, exported\n"
        "exported(pathlib.Path(sys.argv[1]), Watched(), pathlib.Path(sys.argv[2]))\n"
    )
    (tmp_path / "hold").touch()
    command = [sys.executable, "-c", script, quickstart, tmp_path / "out"]
    running = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    try:
        awaited(lambda: bool(list(tmp_path.glob(".out.*.building/main/half"))))
    finally:
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    (first,) = tmp_path.glob(".out.*.building/main/train-00000*")
    written = first.stat().st_ino
    (tmp_path / "hold").unlink()
    capfd.readouterr()
    again = exported(quickstart, Watched(), tmp_path / "out")
    assert capfd.readouterr().out == "1\n"
    assert (tmp_path / "out" / "main" / first.name).stat().st_ino == written
    assert again.as_json() | {"directory": ""} == undisturbed.as_json() | {"directory": ""}
    assert {path.name for path in tmp_path.iterdir()} == {"undisturbed", "out"}


def test_a_shard_that_came_to_be_another_is_written_again(tmp_path: Path):
    kept = WholeShards(tmp_path)
    for number in range(3):
        (tmp_path / f"{number}.bin").write_text("whole")
        kept.note("main", number, Written(examples=number, notes={"odd": {1}} if number == 2 else {}))
    (tmp_path / "1.bin").write_text("other")
    found = WholeShards(tmp_path)
    assert [found.written("main", number) for number in range(3)] == [Written(), None, None]
    assert sorted(path.name for path in tmp_path.glob("*.bin")) == ["0.bin"]


def test_labels_that_an_exporter_does_not_account_for_end_the_export(quickstart: Path, tmp_path: Path):
    with pytest.raises(PluginError, match=r"tells of .* labels and 0 lost ones"):
        exported(quickstart, Forgetful(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--to", "hff"], 'there is no exporter "hff"; did you mean "hf"?'),
        (["--to", "trl"], 'there is no exporter "trl"; what trl reads is written by hf, messages, rl'),
        (["--to", "hf", "--set", "pakced=true"], 'exporter "hf" has no option "pakced"; did you mean "packed"?'),
        (["--to", "hf", "--set", "packed=maybe"], "--set packed: must be true or false"),
        (["--to", "hf", "--set", "packed"], "write it as --set"),
    ],
)
def test_a_misspelt_exporter_or_option_is_answered(quickstart: Path, tmp_path: Path, words: list[str], sentence: str):
    done = orca("export", quickstart, *words, "--out", "out", cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_build_is_refused(tmp_path: Path):
    done = orca("export", ".", "--to", "hf", cwd=tmp_path)
    assert done.returncode == 2
    assert "is not a complete build" in done.stderr


@pytest.mark.parametrize(
    "model",
    [
        models.BPE({"a": 0, "</s>": 1}, []),
        models.WordLevel({"a": 0, "</s>": 1}, "a"),
        models.WordPiece({"a": 0, "</s>": 1}, unk_token="a"),
        models.Unigram([("a", 0.0), ("</s>", -1.0)], unk_id=0),
    ],
    ids=["bpe", "wordlevel", "wordpiece", "unigram"],
)
def test_the_end_of_text_is_the_id_that_the_tokenizers_library_gives(model: models.Model, tmp_path: Path):
    for added, text in (([], "</s>"), (["<end>"], "<end>"), (["</s>"], "</s>"), ([], "<none>")):
        tokenizer = Tokenizer(model)
        tokenizer.add_special_tokens(added)
        definition = json.loads(tokenizer.to_str())
        assert token_id(definition, text) == tokenizer.token_to_id(text)


@pytest.mark.parametrize("settings", ["[]", "[" * 3000 + "]" * 3000])
@pytest.mark.parametrize("file", ["tokenizer_config.json", "tokenizer.json"])
def test_a_tokenizer_that_cannot_be_read_is_refused_by_its_file(
    quickstart: Path, tmp_path: Path, file: str, settings: str
):
    broken = Path(shutil.copytree(quickstart, tmp_path / "broken"))
    (broken / "tokenizer" / file).write_text(settings)
    with pytest.raises(DamagedShard, match=rf"{file}: it cannot be read as a tokenizer's"):
        end_of_text_id(broken)
    # Its digest comes first, also for exporters that refuse what the settings say.
    with pytest.raises(DamagedShard, match=rf"{file}: it has .* promised"):
        exported(broken, Bridge(), tmp_path / "out")


def test_a_place_within_the_build_or_below_a_file_is_refused(quickstart: Path, tmp_path: Path):
    build = Path(shutil.copytree(quickstart, tmp_path / "build"))
    (tmp_path / "link").symlink_to(build)
    for place in (build, build / "main" / "hf", tmp_path / "link" / "hf"):
        with pytest.raises(ExportError, match="lies in the build"):
            exported(build, HF(), place)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ExportError, match=r"cannot be made: .*file is a file"):
        exported(build, HF(), tmp_path / "file" / "below" / "hf")
    assert sorted(path.name for path in build.rglob("*")) == sorted(path.name for path in quickstart.rglob("*"))


class WritesOn(HF):
    """Changes a whole shard's file when all are written."""

    def finish(self, *, build: BuildToExport, shards: Shards, folder: Path) -> None:
        for file in folder.rglob("*.parquet"):
            file.write_bytes(file.read_bytes() + b"more")


def test_files_are_listed_as_they_are_at_the_end(quickstart: Path, tmp_path: Path):
    told = exported(quickstart, WritesOn(), tmp_path / "out")
    assert any(file.path.endswith(".parquet") for file in told.files)
    for file in told.files:
        assert file.digest == file_digest(tmp_path / "out" / file.path)
        assert file.bytes == (tmp_path / "out" / file.path).stat().st_size
