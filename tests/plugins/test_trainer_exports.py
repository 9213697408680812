"""Trainers read what was exported for them: their own classes find our labels, example by example."""

import gzip
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from orca_plugins.exporters.axolotl import Axolotl
from orca_plugins.exporters.bridge import Bridge
from orca_plugins.exporters.llamafactory import LlamaFactory
from orca_plugins.exporters.megatron_documents import MegatronDocuments
from orca_plugins.exporters.olmo import Olmo
from orca_plugins.exporters.skyrl import SkyRL
from orca_recipes.contract.exporter import BuildToExport, Exporter, Shards, ShardToExport, Written
from orca_recipes.errors import ExportError
from orca_recipes.export.export import Exported
from orca_recipes.shards.manifest import read_manifest
from tests.export import wheels
from tests.export.conftest import quickstart, sums
from tests.export.oracle import Labelled, examples_of, labels_in, rows_of
from tests.export.test_export import exported
from tests.shards.test_guard import megatron

__all__ = ["megatron", "quickstart", "sums"]


def labelled(found: list[Any]) -> list[Labelled]:
    return [(tuple(ids), tuple(labels)) for ids, labels in found]


def whole(told: Exported, build: Path, dataset: str = "main") -> bool:
    """Whether all trained tokens of a dataset are labels, and nothing is lost."""
    promised = read_manifest(build).datasets[dataset]
    return told.trained_labels == promised.trained_tokens == labels_in(examples_of(build, dataset))


@pytest.mark.parametrize(
    ("exporter", "reader", "pinned"),
    [
        pytest.param(Axolotl(), "axolotl", wheels.AXOLOTL, marks=pytest.mark.slow),
        (LlamaFactory(), "llamafactory", wheels.LLAMAFACTORY),
        pytest.param(SkyRL(), "skyrl", wheels.SKYRL, marks=pytest.mark.slow),
    ],
)
def test_trainers_that_read_examples_find_our_labels(
    quickstart: Path, tmp_path: Path, exporter: Exporter, reader: str, pinned: tuple[str, ...]
):
    lib = wheels.unpacked(*pinned)
    out = tmp_path / "out"
    assert whole(exported(quickstart, exporter, out), quickstart)
    words = [tmp_path / "cache"] if reader == "axolotl" else []
    assert labelled(wheels.read_by(reader, *words, wheels=lib, folder=out)) == examples_of(quickstart)


@pytest.mark.parametrize("build", ["quickstart", pytest.param("sums", marks=pytest.mark.slow)])
def test_olmo_core_keeps_examples_apart_and_finds_our_labels(
    build: str, tmp_path: Path, request: pytest.FixtureRequest
):
    lib = wheels.unpacked(*wheels.OLMO)
    directory, dataset = request.getfixturevalue(build), "main" if build == "quickstart" else "sums"
    told = exported(directory, Olmo(), tmp_path / "out", dataset)
    assert whole(told, directory, dataset)
    found, cut = wheels.read_by("olmo", tmp_path / "work", tmp_path / "again", wheels=lib, folder=tmp_path / "out")
    pads = [(ids, last) for ids, labels, last in found if max(labels) < 0]
    assert all(last < 0 for _, _, last in found)
    assert all(len(set(ids)) == 1 for ids, _ in pads)
    read = [(tuple(ids), tuple(labels)) for ids, labels, _ in found if max(labels) >= 0]
    assert sorted(read) == sorted(examples_of(directory, dataset))
    # Set as nobody should, it cuts examples as often as was counted.
    counts = {one["effect"]: one["count"] for one in told.wrong_settings}
    each = [cut_at(eos_of(tmp_path / "out"), example) for example in examples_of(directory, dataset)]
    assert counts["cuts within examples"] == sum(cuts for cuts, _ in each)
    assert counts["labels cut from what they answer"] == sum(labels for _, labels in each)
    pad = pads[0][0][0] if pads else None
    assert sum(set(ids) != {pad} for ids, _, _ in cut) == len(each) + counts["cuts within examples"]


def cut_at(eos_id: int, example: Labelled) -> tuple[int, int]:
    """How often looking for the end of text cuts an example, and how many of its labels come behind a cut."""
    ids, labels = example
    places = [at for at, token in enumerate(ids[:-1]) if token == eos_id]
    return len(places), sum(label >= 0 and any(place < at for place in places) for at, label in enumerate(labels))


def widened(exporter: type[Exporter]) -> Exporter:
    """An exporter that is told of a vocabulary past uint16."""

    class Widened(exporter):  # type: ignore[misc, valid-type]
        def write(self, *, build: BuildToExport, shard: ShardToExport, folder: Path) -> Written:
            written: Written = super().write(build=replace(build, vocabulary_size=70_000), shard=shard, folder=folder)
            return written

        def settings(self, *, build: BuildToExport, shards: Shards) -> str:
            told: str = super().settings(build=replace(build, vocabulary_size=70_000), shards=shards)
            return told

    made: Exporter = Widened()
    return made


@pytest.mark.slow
def test_ids_past_uint16_are_written_wider_and_read_so(sums: Path, tmp_path: Path, megatron: dict[str, ModuleType]):
    lib = wheels.unpacked(*wheels.OLMO)
    exported(sums, widened(Olmo), tmp_path / "out", "odds")
    (found,) = wheels.read_by("olmo", tmp_path / "work", wheels=lib, folder=tmp_path / "out")
    read = [(tuple(ids), tuple(labels)) for ids, labels, _ in found if max(labels) >= 0]
    assert sorted(read) == sorted(examples_of(sums, "odds"))
    exported(sums, widened(MegatronDocuments), tmp_path / "documents", "odds")
    pairs = sorted((tmp_path / "documents" / "odds").glob("*.bin"))
    documents = [one for pair in pairs for one in Documents(megatron, pair.with_suffix("")).documents]
    assert documents == [list(ids) for ids, _ in examples_of(sums, "odds")]


def test_bridge_refuses_a_tokenizer_without_an_end_of_text(quickstart: Path, tmp_path: Path):
    class Endless(Bridge):
        def refuse(self, *, build: BuildToExport) -> None:
            super().refuse(build=replace(build, eos_id=None))

    with pytest.raises(ExportError, match=r"pads rows with the tokenizer's end of text.*names none; name one"):
        exported(quickstart, Endless(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def bridge() -> Path:
    return wheels.unpacked(*wheels.BRIDGE)


def read_by_bridge(lib: Path, build: Path, out: Path, dataset: str, eos_id: int) -> list[dict[str, Any]]:
    words = (out / dataset, out / "metadata" / f"{dataset}.json", read_manifest(build).row_tokens, eos_id)
    return wheels.read_by("bridge", *words, wheels=lib, folder=out)


def eos_of(out: Path) -> int:
    settings = json.loads((out / "tokenizer" / "tokenizer_config.json").read_bytes())
    vocabulary = json.loads((out / "tokenizer" / "tokenizer.json").read_bytes())
    text = settings["eos_token"]
    return next(one["id"] for one in vocabulary["added_tokens"] if one["content"] == text)


def pairs_of(row: list[Labelled]) -> list[list[int]]:
    """Of a row: each trained token with the token before it."""
    return [
        [before, label] for ids, labels in row for before, label in zip(ids[:-1], labels[1:], strict=True) if label >= 0
    ]


def test_megatron_bridge_reads_our_rows_with_our_labels(quickstart: Path, tmp_path: Path, bridge: Path):
    told = exported(quickstart, Bridge(), tmp_path / "out")
    assert whole(told, quickstart)
    assert {path.suffix for path in (tmp_path / "out" / "main").iterdir()} == {".parquet"}
    found = read_by_bridge(bridge, quickstart, tmp_path / "out", "main", eos_of(tmp_path / "out"))
    rows = list(rows_of(quickstart))
    assert [row["pairs"] for row in found] == list(map(pairs_of, rows))
    for row, held in zip(found, rows, strict=True):
        ends = np.cumsum([len(ids) - 1 for ids, _ in held]).tolist()
        assert row["bounds"][: len(ends) + 1] == [0, *ends]
        assert all(row["positions"][start] == 0 for start in [0, *ends[:-1]])


def test_labels_that_megatron_bridge_takes_away_are_counted(sums: Path, tmp_path: Path, bridge: Path):
    """An end-of-text token that answers hold: the label after each of them is lost there."""
    counts = np.bincount(np.concatenate([ids for ids, _ in examples_of(sums, "sums")]))
    inner = sorted(
        {
            before
            for example in examples_of(sums, "sums")
            for before, label in pairs_of([example])
            if label >= 0 and before in example[1]
        },
        key=lambda token: -int(counts[token]),
    )[0]

    class Ended(Bridge):
        def write(self, *, build: BuildToExport, shard: ShardToExport, folder: Path) -> Written:
            return super().write(build=replace(build, eos_id=inner), shard=shard, folder=folder)

    told = exported(sums, Ended(), tmp_path / "out", "sums")
    rows = [pairs_of(row) for row in rows_of(sums, "sums")]
    after = [[pair for pair in row if pair[0] != inner] for row in rows]
    lost = sum(map(len, rows)) - sum(map(len, after))
    assert lost > 0
    assert list(told.lost_labels.values()) == [lost]
    assert told.trained_labels + lost == read_manifest(sums).datasets["sums"].trained_tokens
    assert f"{lost:,} trained labels of the build are lost" in (tmp_path / "out" / "README.md").read_text()
    found = read_by_bridge(bridge, sums, tmp_path / "out", "sums", inner)
    assert [row["pairs"] for row in found] == after


@pytest.mark.parametrize("build", ["quickstart", "sums"])
def test_stock_megatron_reads_each_example_as_one_document(
    build: str, tmp_path: Path, request: pytest.FixtureRequest, megatron: dict[str, ModuleType]
):
    directory, dataset = request.getfixturevalue(build), "main" if build == "quickstart" else "sums"
    told = exported(directory, MegatronDocuments(), tmp_path / "out", dataset)
    assert whole(told, directory, dataset)
    examples = [list(ids) for ids, _ in examples_of(directory, dataset)]
    held = 0
    for prefix in sorted((tmp_path / "out" / dataset).glob("*.bin")):
        found = Documents(megatron, prefix.with_suffix(""))
        wanted = examples[held : held + len(found.documents)]
        held += len(wanted)
        assert found.documents == wanted
        joined = [token for document in found.order for token in wanted[document]]
        for at, sample in enumerate(found.samples):
            assert sample == joined[at * found.length : (at + 1) * found.length + 1]
    assert held == len(examples)


class Documents:
    """What Megatron's IndexedDataset and GPTDataset read of a pair: documents, their order, samples end to end."""

    length = 32

    def __init__(self, megatron: dict[str, ModuleType], prefix: Path) -> None:
        low = megatron["indexed_dataset"].IndexedDataset(str(prefix))
        self.documents = [low[at].tolist() for at in range(len(low))]
        tokenizer = SimpleNamespace(vocab_size=60_000, eod=0, unique_identifiers={"class": "ours"}, pad=-1)
        config = megatron["gpt_dataset"].GPTDatasetConfig(
            random_seed=1,
            sequence_length=self.length,
            blend=([str(prefix)], None),
            split="1,0,0",
            path_to_cache=str(prefix.parent / "cache"),
            reset_position_ids=False,
            reset_attention_mask=False,
            eod_mask_loss=False,
            tokenizer=tokenizer,
            create_attention_mask=False,
        )
        every = np.arange(low.document_indices.shape[0] - 1, dtype=np.int32)
        split = megatron["gpt_dataset"].Split.train
        stock = megatron["gpt_dataset"].GPTDataset(low, str(prefix), every, None, split, config)
        self.order = stock.document_index.tolist()
        samples = {int(stock.shuffle_index[at]): stock[at] for at in range(len(stock))}
        assert all(bool((one["loss_mask"] == 1).all()) for one in samples.values())
        told = (samples[at] for at in sorted(samples))
        self.samples = [[*one["tokens"].tolist(), int(one["labels"][-1])] for one in told]


def test_bounds_of_olmo_core_are_those_of_examples(quickstart: Path, tmp_path: Path):
    exported(quickstart, Olmo(), tmp_path / "out")
    lengths = [len(ids) for ids, _ in examples_of(quickstart)]
    held: list[int] = []
    for path in sorted((tmp_path / "out" / "main").glob("*.csv.gz")):
        bounds = [tuple(map(int, line.split(","))) for line in gzip.decompress(path.read_bytes()).decode().split()]
        assert all(stop == start for (_, stop), (start, _) in pairwise(bounds))
        held += [stop - start for start, stop in bounds]
    assert held == lengths
