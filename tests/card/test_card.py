"""What a card says of a build and of an export, and that hubs and loaders read it."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from orca_recipes.card.card import make_card, write_card
from orca_recipes.card.carded import open_carded
from orca_recipes.cli.main import main
from orca_recipes.errors import BuildError, DamagedShard, ExportError, UserError
from orca_recipes.shards.manifest import read_manifest


def head_of(folder: Path) -> dict[str, Any]:
    """The lines that hubs read, as huggingface_hub reads them."""
    from huggingface_hub import DatasetCard

    return DatasetCard((folder / "README.md").read_text(encoding="utf-8")).data.to_dict()


def rows_of(place: Path) -> list[dict[str, Any]]:
    """The rows of all record sets, as mlcroissant reads them; skips where it is not installed."""
    croissant = pytest.importorskip("mlcroissant", reason="no mlcroissant: pip install 'orca-recipes[test]'")
    dataset = croissant.Dataset(jsonld=str(place))
    assert not dataset.metadata.ctx.issues.errors
    rows = (row for found in dataset.metadata.record_sets for row in dataset.records(found.uuid))
    return [{key.rpartition("/")[2]: value for key, value in row.items()} for row in rows]


def test_hubs_read_the_head_of_a_card(built: Path, tmp_path: Path):
    write_card(built, tmp_path / "card", languages=["en", "de"], licences={"sums": "cc-by-4.0"})
    head = head_of(tmp_path / "card")
    assert head["language"] == ["en", "de"]
    assert head["license"] == "cc-by-4.0"
    assert head["size_categories"] == "n<1K"
    assert head["configs"][0]["config_name"] == "main"
    assert "instruction-tuning" in head["tags"]
    assert "| sums | cc-by-4.0 |" in (tmp_path / "card" / "README.md").read_text(encoding="utf-8")


def test_a_licence_that_the_recipe_says_is_said_and_who_writes_the_card_wins(built: Path, tmp_path: Path):
    carded = replace(open_carded(built), licences={"sums": "mit"})
    assert "| sums | mit |" in make_card(carded, languages=(), licences={}).readme
    assert "| sums | cc-by-4.0 |" in make_card(carded, languages=(), licences={"sums": "cc-by-4.0"}).readme


def test_a_licence_that_nobody_states_is_unknown(built: Path, tmp_path: Path):
    write_card(built, tmp_path / "card")
    assert head_of(tmp_path / "card")["license"] == "unknown"
    assert "| sums | unknown |" in (tmp_path / "card" / "README.md").read_text(encoding="utf-8")


def test_the_card_of_an_export_keeps_how_the_trainer_is_set(exported: Path, tmp_path: Path):
    write_card(exported, tmp_path / "card", languages=["en"])
    text = (tmp_path / "card" / "README.md").read_text(encoding="utf-8")
    assert text.count("\n---\n") == 1
    assert "SFTConfig(" in text
    assert head_of(tmp_path / "card")["language"] == ["en"]


def test_the_card_of_an_export_as_text_names_the_files_of_each_dataset(exported: Path, tmp_path: Path):
    """Without them a hub's loader joins the files of all datasets to one."""
    own = (exported / "README.md").read_text(encoding="utf-8")
    head = 'configs: [{"config_name": "main", "data_files": [{"split": "train", "path": "main/train-*.jsonl"}]}]'
    carded = replace(open_carded(exported), head=head, tables={"main": ()})
    (tmp_path / "README.md").write_text(make_card(carded, languages=(), licences={}).readme, encoding="utf-8")
    (config,) = head_of(tmp_path)["configs"]
    assert (config["config_name"], config["data_files"][0]["path"]) == ("main", "main/train-*.jsonl")
    write_card(exported, tmp_path / "card")
    assert head_of(tmp_path / "card")["configs"] == yaml.safe_load(own.split("---")[1])["configs"]


def test_a_hub_knows_every_class_of_size(built: Path):
    sizes = [("n<1K", 999), ("1K<n<10K", 1_000), ("10M<n<100M", 99_999_999), ("100M<n<1B", 100_000_000)]
    for name, examples in sizes:
        carded = replace(open_carded(built), examples=examples)
        assert f"size_categories: {name}\n" in make_card(carded, languages=(), licences={}).readme


@pytest.mark.filterwarnings("ignore")
def test_mlcroissant_reads_the_rows_of_an_export(exported: Path, tmp_path: Path):
    import pyarrow.parquet as pq

    copy = Path(shutil.copytree(exported, tmp_path / "copy"))
    write_card(exported, tmp_path / "card")
    shutil.copy(tmp_path / "card" / "croissant.json", copy)
    found = rows_of(copy / "croissant.json")
    stored = pq.read_table(next(copy.glob("main/*.parquet"))).to_pylist()
    assert len(found) == len(stored) == 60
    assert [list(row["input_ids"]) for row in found] == [row["input_ids"] for row in stored]
    assert [list(row["labels"]) for row in found] == [row["labels"] for row in stored]


@pytest.mark.filterwarnings("ignore")
def test_mlcroissant_reads_the_records_of_a_build(built: Path, tmp_path: Path):
    copy = Path(shutil.copytree(built, tmp_path / "copy"))
    write_card(built, tmp_path / "card")
    shutil.copy(tmp_path / "card" / "croissant.json", copy)
    found = rows_of(copy / "croissant.json")
    counts = read_manifest(built).datasets["main"]
    assert len(found) == counts.examples
    assert sum(int(row["tokens"]) for row in found) == counts.tokens
    assert {row["collection"] for row in found} == {b"sums"}


def test_a_card_names_each_file_with_its_sha256(exported: Path, tmp_path: Path):
    write_card(exported, tmp_path / "card")
    told = json.loads((tmp_path / "card" / "croissant.json").read_text(encoding="utf-8"))
    for file in told["distribution"]:
        assert file["sha256"] == hashlib.sha256((exported / file["contentUrl"]).read_bytes()).hexdigest()
    assert told["conformsTo"].endswith("/1.1")


def test_a_card_is_written_over_nothing(built: Path, tmp_path: Path):
    write_card(built, tmp_path / "card")
    with pytest.raises(ExportError, match=r"README\.md is there already"):
        write_card(built, tmp_path / "card")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ExportError, match="is a file"):
        write_card(built, tmp_path / "file")


def test_a_licence_of_no_collection_is_refused_by_name(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(UserError, match='no collection "sum"; did you mean "sums"'):
        write_card(built, tmp_path / "card", licences={"sum": "mit"})
    with pytest.raises(SystemExit) as stop:
        main(["card", str(built), "-o", str(tmp_path / "card"), "--license", "mit"])
    assert stop.value.code == 2
    assert "of which collection" in capsys.readouterr().err
    assert not (tmp_path / "card").exists()


def test_what_is_damaged_or_nothing_gets_no_card(exported: Path, tmp_path: Path):
    broken = Path(shutil.copytree(exported, tmp_path / "broken"))
    table = next(broken.glob("main/*.parquet"))
    table.write_bytes(table.read_bytes()[:-1])
    with pytest.raises(DamagedShard, match="not the file that was exported"):
        write_card(broken, tmp_path / "card")
    with pytest.raises(BuildError, match="neither a build"):
        write_card(tmp_path, tmp_path / "card")
    assert not (tmp_path / "card").exists()
