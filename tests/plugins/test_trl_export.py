"""TRL reads what `--to hf` wrote: its own trainer's batches have our labels, row by row."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from orca_plugins.exporters.hf import HF
from orca_recipes.shards.manifest import read_manifest
from tests.export.conftest import quickstart
from tests.export.oracle import examples_of, rows_of
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


def batches(folder: Path, work: Path, **settings: Any) -> list[dict[str, Any]]:
    """All batches of TRL's own data loader, in one epoch."""
    trl = pytest.importorskip("trl", reason="needs trl and accelerate")
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=4096, **sizes))
    plain = {
        "report_to": "none",
        "per_device_train_batch_size": 2,
        "use_cpu": True,
        "bf16": False,
        "save_strategy": "no",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = trl.SFTTrainer(
            model=model,
            args=trl.SFTConfig(output_dir=str(work / "run"), **plain, **settings),
            train_dataset=loaded(folder, work / "cache"),
            processing_class=AutoTokenizer.from_pretrained(folder / "tokenizer"),
        )
        assert isinstance(trainer.model, torch.nn.Module)
        names = ("input_ids", "labels", "position_ids")
        return [{name: batch[name].tolist() for name in names} for batch in trainer.get_train_dataloader()]


def spans(found: list[dict[str, Any]]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The examples of batches without padding: each begins at position 0."""
    told = []
    for batch in found:
        (ids,), (labels,), (positions,) = batch["input_ids"], batch["labels"], batch["position_ids"]
        starts = [at for at, position in enumerate(positions) if position == 0]
        for start, stop in zip(starts, [*starts[1:], len(ids)], strict=True):
            told.append((tuple(ids[start:stop]), tuple(labels[start:stop])))
    return told


@pytest.mark.parametrize(
    ("packed", "settings"),
    [
        (False, {"packing": True, "packing_strategy": "bfd", "max_length": 2048}),
        (True, {"packing": False, "padding_free": True, "max_length": None}),
    ],
)
def test_the_trainers_batches_have_our_labels(quickstart: Path, tmp_path: Path, packed: bool, settings: dict):
    told = exported(quickstart, HF(packed=packed), tmp_path / "out")
    readme = (tmp_path / "out" / "README.md").read_text()
    assert all(f"{name}={value!r}".replace("'", '"') in readme for name, value in settings.items())
    found = spans(batches(tmp_path / "out", tmp_path, **settings))
    assert sorted(found) == sorted(examples_of(quickstart))
    assert sum(label >= 0 for _, labels in found for label in labels) == told.trained_labels
    assert told.trained_labels == read_manifest(quickstart).datasets["main"].trained_tokens


def test_the_card_is_what_a_hub_reads(quickstart: Path, tmp_path: Path):
    from huggingface_hub import DatasetCard

    exported(quickstart, HF(), tmp_path / "out")
    card = DatasetCard.load(tmp_path / "out" / "README.md")
    assert card.data.to_dict()["configs"][0]["config_name"] == "main"
    assert json.loads((tmp_path / "out" / "export.json").read_bytes())["build"] == read_manifest(quickstart).digest
