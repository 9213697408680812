"""TRL reads what `--to hf` wrote: its own trainer's batches have our labels, row by row."""

import json
from pathlib import Path
from typing import Any

import pytest

from orca_plugins.exporters.hf import HF
from orca_recipes.shards.manifest import read_manifest
from tests.export import wheels
from tests.export.conftest import quickstart
from tests.export.oracle import Labelled, examples_of, labels_in, rows_of
from tests.export.test_export import exported

__all__ = ["quickstart"]


def loaded(folder: Path, cache: Path) -> Any:
    """The export as `datasets` loads a folder with a card."""
    datasets = pytest.importorskip("datasets", reason="needs datasets")
    return datasets.load_dataset(str(folder), "main", split="train", cache_dir=str(cache))


def test_datasets_loads_examples_with_our_labels(quickstart: Path, tmp_path: Path):
    exported(quickstart, HF(), tmp_path / "out")
    found = loaded(tmp_path / "out", tmp_path / "cache")
    assert found.column_names == ["input_ids", "labels"]
    told = [(tuple(row["input_ids"]), tuple(row["labels"])) for row in found]
    assert told == examples_of(quickstart)


def test_datasets_loads_packed_rows_with_the_lengths_of_their_examples(quickstart: Path, tmp_path: Path):
    exported(quickstart, HF(packed=True), tmp_path / "out")
    told = []
    for row in loaded(tmp_path / "out", tmp_path / "cache"):
        ends = [sum(row["seq_lengths"][: at + 1]) for at in range(len(row["seq_lengths"]))]
        spans = list(zip([0, *ends], ends, strict=False))
        told.append([(tuple(row["input_ids"][a:b]), tuple(row["labels"][a:b])) for a, b in spans])
    assert told == list(rows_of(quickstart))


@pytest.fixture(scope="module")
def trl() -> Path:
    return wheels.unpacked(*wheels.TRL)


def spans(batch: dict[str, Any]) -> list[Labelled]:
    """The examples of a batch without padding: each begins at position 0."""
    (ids,), (labels,), (positions,) = batch["input_ids"], batch["labels"], batch["position_ids"]
    starts = [at for at, position in enumerate(positions) if position == 0]
    return [(tuple(ids[a:b]), tuple(labels[a:b])) for a, b in zip(starts, [*starts[1:], len(ids)], strict=True)]


@pytest.mark.slow
def test_steps_of_training_see_our_labels(quickstart: Path, tmp_path: Path, trl: Path):
    told = exported(quickstart, HF(), tmp_path / "out")
    ran = wheels.read_by("trl", tmp_path / "work", "4", wheels=trl, folder=tmp_path / "out")
    loaded = [spans(batch) for batch in ran["loaded"]]
    assert sorted(one for batch in loaded for one in batch) == sorted(examples_of(quickstart))
    assert told.trained_labels == labels_in([one for batch in loaded for one in batch])
    given = [spans(batch) for batch in ran["given"]]
    assert (len(given), len(ran["losses"])) == (4, 4)
    ours = dict(examples_of(quickstart))
    assert given[0]
    assert all(ours[ids] == labels for batch in given for ids, labels in batch)


@pytest.mark.slow
def test_packed_rows_are_loaded_with_our_labels(quickstart: Path, tmp_path: Path, trl: Path):
    told = exported(quickstart, HF(packed=True), tmp_path / "out")
    ran = wheels.read_by("trl", tmp_path / "work", "0", wheels=trl, folder=tmp_path / "out")
    loaded = [one for batch in ran["loaded"] for one in spans(batch)]
    assert sorted(loaded) == sorted(examples_of(quickstart))
    assert told.trained_labels == read_manifest(quickstart).datasets["main"].trained_tokens


def test_the_card_is_what_a_hub_reads(quickstart: Path, tmp_path: Path):
    from huggingface_hub import DatasetCard

    exported(quickstart, HF(), tmp_path / "out")
    card = DatasetCard.load(tmp_path / "out" / "README.md")
    assert card.data.to_dict()["configs"][0]["config_name"] == "main"
    assert json.loads((tmp_path / "out" / "export.json").read_bytes())["build"] == read_manifest(quickstart).digest
