"""What is kept apart from a build shows a forged one: a lock, a digest, a signature."""

import gzip
import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from orca_recipes.cli.main import main
from orca_recipes.shards.manifest import read_manifest
from tests.campaign.forge import NAMED, change_column, forged_erasing, forgeries, tried
from tests.campaign.forge import forged as forged_by_rule
from tests.prove.forging import reseal

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a build of every twelfth task of the quickstart in two shards, its recipe and its lock."""
    folder = tmp_path_factory.mktemp("anchors")
    shutil.copytree(RECIPES / "quickstart", folder / "quickstart")
    tasks = folder / "quickstart" / "tasks.jsonl.gz"
    tasks.write_bytes(gzip.compress(b"".join(gzip.decompress(tasks.read_bytes()).splitlines(keepends=True)[::12])))
    text = (RECIPES / "quickstart.toml").read_text(encoding="utf-8")
    (folder / "quickstart.toml").write_text(text.replace("200_000", "16_384"), encoding="utf-8")
    places = ["--store", str(folder / "store"), "--out", str(folder / "out"), "--workers", "1"]
    done = CliRunner().invoke(main, ["build", str(folder / "quickstart.toml"), *places])
    assert done.exit_code == 0, done.output
    return folder


def verified(directory: Path, *words: str, status: int) -> dict[str, list[object]]:
    done = told(directory, *words, "--json", status=status)
    return dict(json.loads(done.stdout))


def told(directory: Path, *words: str, status: int) -> Result:
    done = CliRunner().invoke(main, ["verify", str(directory), *words])
    assert done.exit_code == status, done.output
    return done


def forged(home: Path, folder: Path) -> Path:
    """A copy whose manifest says that another end begins each answer's recipe; nothing in the directory shows it."""
    copy = Path(shutil.copytree(home / "out", folder / "forged"))
    reseal(copy, lambda table: table.update(lock_digest="blake2b:" + "0" * 64))
    assert verified(copy, status=0)["sound"]
    return copy


def test_a_lock_shows_a_forged_build(home: Path, tmp_path: Path):
    lock = ("--lock", str(home / "quickstart.lock"))
    good = verified(home / "out", *lock, status=0)
    assert all(str(name).startswith("made.") for name in good["unknowable"])
    bad = verified(forged(home, tmp_path), *lock, status=1)
    assert bad["findings"][0]["file"] == "manifest.json"  # type: ignore[index]
    assert "it is not the build of the lock" in bad["findings"][0]["sentence"]  # type: ignore[index]
    assert "lock_digest" in bad["unknowable"]


def test_a_lock_shows_that_a_build_was_asked_for_in_other_words(home: Path, tmp_path: Path):
    copy = Path(shutil.copytree(home / "out", tmp_path / "out"))
    reseal(copy, lambda table: table["recipe"].update(seed=7))
    bad = verified(copy, "--lock", str(home / "quickstart.lock"), status=1)
    assert "its contents are the lock's" in bad["findings"][0]["sentence"]  # type: ignore[index]


def test_a_lock_of_a_recipe_that_was_never_built_anchors_nothing(home: Path, tmp_path: Path):
    lock = tmp_path / "bare.lock"
    lock.write_text((home / "quickstart.lock").read_text().partition("[outcomes]")[0])
    assert "was not built since" in told(home / "out", "--lock", str(lock), status=2).stderr
    assert "there is no such lock" in told(home / "out", "--lock", str(tmp_path / "none"), status=2).stderr


def test_a_digest_that_was_noted_shows_a_forged_build(home: Path, tmp_path: Path):
    manifest = read_manifest(home / "out")
    of_data = verified(home / "out", "--digest", manifest.data_digest, status=0)
    assert "recipe" in of_data["unknowable"]
    assert "prompts" not in of_data["unknowable"]
    of_all = verified(home / "out", "--digest", manifest.digest, status=0)
    assert "recipe" not in of_all["unknowable"]
    bad = verified(forged(home, tmp_path), "--digest", manifest.digest, status=1)
    assert manifest.digest in bad["findings"][0]["sentence"]  # type: ignore[index]
    verified(home / "out", "--digest", "blake2b:" + "1" * 64, status=1)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="signatures need ssh-keygen of OpenSSH")
def test_what_is_forged_is_found_or_said_to_be_unknowable(home: Path, tmp_path: Path):
    told = forged_by_rule(home / "out", home / "quickstart.lock", tmp_path, 24, random.Random(5))
    assert told.failed == []
    assert told.unknowable
    found = told.as_json()["found"]
    assert 4 < found["alone"] < found["lock"] == found["digest"] <= found["signature"] == told.tried


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="signatures need ssh-keygen of OpenSSH")
def test_the_forgeries_that_once_passed_are_found(home: Path, tmp_path: Path):
    once = [(name, forgery) for name, forgery in forgeries(home / "out") if name in NAMED]
    told = tried(once, home / "out", home / "quickstart.lock", tmp_path)
    told.add(forged_erasing(tmp_path))
    assert told.failed == []
    anchored = {"lock": True, "digest": True, "signature": True}
    assert told.as_json()["named"] == {
        "two examples' prompts exchanged": {"alone": False, **anchored},
        "teacher_view nulled although the recipe erases": {"alone": True, **anchored},
        "eos_token_id changed": {"alone": True, **anchored},
    }


def _first_phase(table: dict[str, Any]) -> None:
    table["recipe"]["curriculum"][0]["epochs"] += 1


def _another_dataset(table: dict[str, Any]) -> None:
    table["recipe"]["curriculum"][0]["dataset"] = "others"


def _kind_in_the_plan(table: dict[str, Any]) -> None:
    (stage,) = (stage for stage in table["plan"] if stage["verb"] == "read")
    stage["kind"] = "sources:flan"


@pytest.mark.parametrize(
    ("forge", "said"),
    [
        (lambda table: table["recipe"]["training"].update(learning_rate=0.5), "training: it holds other values"),
        (lambda table: table["recipe"].update(model={"config": "other"}), "model: it holds other values"),
        (_first_phase, "phases: it holds other values"),
        (_another_dataset, "names a dataset that the build does not hold"),
        (lambda table: table["recipe"]["template"].update(kind="plain"), "and its recipe says plain"),
        (_kind_in_the_plan, "is by sources:flan, and its recipe says files"),
        (lambda table: table["recipe"].pop("collections"), "its recipe has no collections"),
        (lambda table: table["recipe"].update(name="n" * 70_000), "it is named "),
        (lambda table: table.update(pad_id=5), "it says that rows are filled by token 5"),
        (lambda table: table.update(bos_id=1), "it says that BOS is 1, and tokenizer/tokenizer.json none"),
    ],
)
def test_what_a_build_says_twice_is_found_where_only_one_is_forged(
    home: Path, tmp_path: Path, forge: Callable[[dict[str, Any]], None], said: str
):
    copy = Path(shutil.copytree(home / "out", tmp_path / "out"))
    reseal(copy, forge)
    bad = verified(copy, status=1)
    told = [finding["sentence"] for finding in bad["findings"]]  # type: ignore[index]
    assert any(said in sentence for sentence in told)
    assert max(map(len, told)) < 3000


def test_a_strategy_that_the_recipe_does_not_name_is_found(home: Path, tmp_path: Path):
    copy = Path(shutil.copytree(home / "out", tmp_path / "out"))
    change_column(copy, path="main/00000.records.parquet", column="strategy")
    (bad,) = verified(copy, status=1)["findings"]
    assert 'it names strategy "directx", which the recipe does not' in bad["sentence"]  # type: ignore[index]
    assert bad["file"] == "main/00000.records.parquet"  # type: ignore[index]


def test_a_view_of_the_teacher_that_cannot_be_read_is_a_fault_of_its_example(home: Path, tmp_path: Path):
    copy = Path(shutil.copytree(home / "out", tmp_path / "out"))
    change_column(copy, path="main/00000.records.parquet", column="teacher_view")
    bad, told = verified(copy, status=1)["findings"]
    assert "and the recipe erases nothing" in told["sentence"] + bad["sentence"]  # type: ignore[index]
    (of_row,) = (one for one in (bad, told) if one["row"] is not None)  # type: ignore[index]
    assert "what its teacher was asked" in of_row["sentence"]


def test_a_view_that_is_taken_away_is_found_where_the_recipe_erases(home: Path, tmp_path: Path):
    shutil.copytree(home / "quickstart", tmp_path / "quickstart")
    text = (home / "quickstart.toml").read_text().partition("[[curriculum]]")[0]
    erasing = '[datasets.main]\nmixture = "main"\nstudent = { erase = true }\n'
    erasing += "[mixtures.main]\ntake.reasoning = { rows = 20 }\n"
    (tmp_path / "quickstart.toml").write_text(text + erasing)
    places = ["--store", str(home / "store"), "--out", str(tmp_path / "out"), "--workers", "1"]
    done = CliRunner().invoke(main, ["build", str(tmp_path / "quickstart.toml"), *places])
    assert done.exit_code == 0, done.output
    verified(tmp_path / "out", status=0)
    path = tmp_path / "out" / "main" / "00000.records.parquet"
    held = pq.read_table(path)
    at, kind = held.column_names.index("teacher_view"), held.schema.field("teacher_view")
    pq.write_table(held.set_column(at, kind, pa.nulls(len(held), kind.type)), path)
    reseal(tmp_path / "out")
    bad = verified(tmp_path / "out", status=1)["findings"]
    told = "20 records of 20 do not tell what the teacher was asked, which the recipe erases"
    assert told in [one["sentence"] for one in bad]  # type: ignore[index]


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("generation_config.json", {"eos_token_id": 1}, "it says eos_token_id = 1, and the build was made with 2"),
        ("generation_config.json", {"pad_token_id": False}, "it says pad_token_id = false"),
        ("generation_config.json", {"bos_token_id": 1}, "it says bos_token_id = 1"),
        ("generation_config.json", {"max_length": 3}, 'it says "max_length", which no build writes'),
        ("tokenizer_config.json", {"chat_template": "x"}, 'it says chat_template = "x"'),
        ("tokenizer_config.json", {"clean_up_tokenization_spaces": True}, "clean_up_tokenization_spaces = true"),
        ("tokenizer_config.json", {"tokenizer_class": "LlamaTokenizer"}, 'tokenizer_class = "LlamaTokenizer"'),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": "x.Y"}}, "it names code to load"),
    ],
)
def test_settings_of_inference_that_are_forged_are_found(
    home: Path, tmp_path: Path, file: str, change: dict[str, Any], said: str
):
    copy = Path(shutil.copytree(home / "out", tmp_path / "out"))
    path = copy / "tokenizer" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    reseal(copy)
    (bad,) = verified(copy, status=1)["findings"]
    assert bad["file"] == f"tokenizer/{file}"  # type: ignore[index]
    assert said in bad["sentence"]  # type: ignore[index]


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="signatures need ssh-keygen of OpenSSH")
def test_a_signature_covers_the_whole_build_and_nobody_elses_key_fits(home: Path, tmp_path: Path):
    for name in ("mine", "other"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    copy = Path(shutil.copytree(home / "out", tmp_path / "out"))
    done = CliRunner().invoke(main, ["sign", str(copy), "--key", str(tmp_path / "mine")])
    assert done.exit_code == 0, done.output
    signature = ("--signature", str(tmp_path / "out.sig"))
    good = verified(copy, *signature, "--key", str(tmp_path / "mine.pub"), status=0)
    assert good["unknowable"] == []
    # OpenSSH checks it without us.
    by_hand = ["ssh-keygen", "-Y", "check-novalidate", "-n", "orca-recipe", "-s", str(tmp_path / "out.sig")]
    subprocess.run(by_hand, input=(copy / "manifest.json").read_bytes(), check=True, capture_output=True)
    other = verified(copy, *signature, "--key", str(tmp_path / "other.pub"), status=1)
    assert other["findings"][0]["file"] == "manifest.json"  # type: ignore[index]
    private = told(copy, *signature, "--key", str(tmp_path / "mine"), status=2).stderr
    assert "it is a private key" in private
    reseal(copy, lambda table: table["recipe"].update(seed=7))
    verified(copy, *signature, "--key", str(tmp_path / "mine.pub"), status=1)
    assert told(copy, *signature, status=2)


def test_a_build_that_is_damaged_is_not_signed(home: Path, tmp_path: Path):
    copy = Path(shutil.copytree(home / "out", tmp_path / "out"))
    text = (copy / "manifest.json").read_text()
    (copy / "manifest.json").write_text(text.replace('"align"', '"aligned"'))
    (tmp_path / "key").write_text("no key")
    done = CliRunner().invoke(main, ["sign", str(copy), "--key", str(tmp_path / "key")])
    assert done.exit_code != 0
    done = CliRunner().invoke(main, ["sign", str(home / "out"), "--key", str(tmp_path / "key")])
    assert done.exit_code == 2
    assert not (home / "out.sig").exists()


def test_texts_are_checked_where_the_recipe_leaves_the_kind_of_tokenizer_out(home: Path, tmp_path: Path):
    shutil.copytree(home / "quickstart", tmp_path / "quickstart")
    text = (home / "quickstart.toml").read_text().partition("[[curriculum]]")[0]
    head, named, tail = text.partition('[tokenizer]\nkind = "hf"\n')
    assert named
    taken = "[mixtures.main]\ntake.reasoning = { rows = 20 }\n"
    (tmp_path / "quickstart.toml").write_text(f"{head}[tokenizer]\n{tail}{taken}")
    places = ["--store", str(home / "store"), "--out", str(tmp_path / "out"), "--workers", "1"]
    done = CliRunner().invoke(main, ["build", str(tmp_path / "quickstart.toml"), *places])
    assert done.exit_code == 0, done.output
    assert "not checked" not in told(tmp_path / "out", status=0).output
