"""A small build made by hand: two datasets, three shards, every kind of example that the format knows.

Tests that damage it either leave the manifest alone (then digests tell) or make it anew by `reseal` (then only the
format's own rules can tell).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from orca_recipes.shards.curriculum import (
    AskedPhase,
    DatasetSize,
    compiled_curriculum,
    write_curriculum,
)
from orca_recipes.shards.digests import bytes_digest, file_digest
from orca_recipes.shards.layout import ROLES, STARTS, TRAINED, segment_modes
from orca_recipes.shards.manifest import Contents, Made, fill, read_manifest, sealed, write_manifest
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.records import CUT, TRUNCATED, records_schema, rejected_schema, write_table
from orca_recipes.shards.table_digest import content_digest_of_table
from orca_recipes.shards.writer import write_pair

BOS, END, PAD = 256, 257, 258
VOCABULARY, ROW_TOKENS = 259, 96


@dataclass(frozen=True)
class Example:
    """One example as text: turns are (role, text); assistants are trained and end with the terminator."""

    name: str
    task: str
    turns: Sequence[tuple[str, str]]
    flags: int = 0
    collection: str = "cot"
    file: str | None = "train.tsv"
    line: int | None = 1

    @property
    def id(self) -> str:
        return hashlib.blake2b(self.name.encode(), digest_size=16).hexdigest()

    def segments(self, tokenizer: Tokenizer) -> list[tuple[int, list[int]]]:
        """Mode and tokens of each segment."""
        found: list[tuple[int, list[int]]] = []
        for number, (role, text) in enumerate(self.turns):
            trained = role == "assistant"
            cut = self.flags & (CUT | TRUNCATED) and number == len(self.turns) - 1
            ids = [BOS] * (number == 0) + tokenizer.encode(text).ids + [END] * (trained and not cut)
            found.append((ROLES.index(role) << 2 | TRAINED * trained | STARTS * (number == 0), ids))
        return found


def tiny_tokenizer() -> Tokenizer:
    """Bytes are tokens, and three control tokens stand above them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: place for place, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in ("<s>", "</s>", "<pad>")])
    return tokenizer


ROWS: dict[str, list[list[Example]]] = {
    "main/00000": [
        [
            Example("a", "aqua", [("system", "Be kind."), ("user", "2+2?"), ("assistant", "4")]),
            Example(
                "b", "aqua", [("user", "Two\nlines?"), ("assistant", "one"), ("user", "more"), ("assistant", "two")]
            ),
        ],
        [Example("c", "esnli", [("user", "long?"), ("assistant", "a cut answ")], flags=TRUNCATED)],
    ],
    "main/00001": [[Example("d", "esnli", [("mixed", "é"), ("assistant", "\x1b[31mred[bold]")], file=None, line=None)]],
    "side/00000": [
        [Example("e", "chain", [("user", "x"), ("assistant", "unfinished")], flags=CUT, collection="gym", line=7)],
        [Example("f", "chain", [("user", "y"), ("tool", "{}"), ("assistant", "")], collection="gym", line=8)],
    ],
}


def write_shard(directory: Path, prefix: str, rows: Sequence[Sequence[Example]], tokenizer: Tokenizer) -> None:
    """One pair and its records."""
    segments = [[segment for example in row for segment in example.segments(tokenizer)] for row in rows]
    flat = [segment for row in segments for segment in row]
    write_pair(
        prefix=directory / prefix,
        vocabulary_size=VOCABULARY,
        blocks=iter([np.array([token for _, ids in flat for token in ids], dtype=np.uint32)]),
        segment_lengths=np.array([len(ids) for _, ids in flat], dtype=np.int32),
        segment_modes=np.array([mode for mode, _ in flat], dtype=np.int8),
        row_starts=np.cumsum([0, *map(len, segments)]),
        guarded=True,
    )
    write_table(directory / f"{prefix}.records.parquet", records_of(directory / prefix, rows))


def records_of(prefix: Path, rows: Sequence[Sequence[Example]]) -> pa.Table:
    shard = Shard.open(prefix)
    segments, data, width = shard.segments, shard.tokens.tobytes(), shard.dtype.itemsize
    examples = [example for row in rows for example in row]
    lines = [
        {
            "id": bytes.fromhex(example.id),
            "turn": -1,
            "collection": example.collection,
            "task": example.task,
            "file": example.file,
            "line": example.line,
            "strategy": "direct",
            "system_message": "",
            "teacher": "reference",
            "flags": example.flags,
            "text_digest": bytes.fromhex(example.id),
            "ids_xxh3": xxhash.xxh3_128_digest(data[start * width : stop * width]),
            "row": int(segments.example_rows[at]),
            "place": int(segments.example_places[at]),
            "tokens": int(segments.example_tokens[at]),
            "trained_tokens": int(segments.example_trained_tokens[at]),
        }
        for at, (example, (start, stop)) in enumerate(
            zip(examples, pairwise(segments.example_bounds.tolist()), strict=True)
        )
    ]
    return pa.Table.from_pylist(lines, schema=records_schema())


def reseal(directory: Path, **changes: Any) -> None:
    """Write a manifest that promises what the directory now holds, with these fields changed."""
    datasets = {
        name: dataset_counts(directory, name, changes.get("row_tokens", ROW_TOKENS)) for name in ("main", "side")
    }
    paths = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != "manifest.json")
    names = {path: path.relative_to(directory).as_posix() for path in paths}
    described = {
        path: {"path": names[path], "bytes": path.stat().st_size, "digest": file_digest(path)} for path in paths
    }
    tables = [path for path in paths if path.suffix == ".parquet"]
    contents = {
        "name": "tiny",
        "recipe": {"name": "tiny", "seed": 1},
        "profile": None,
        "set": [],
        "limit": None,
        "lock_digest": bytes_digest(b"lock"),
        "plan": [{"name": "main/rows", "verb": "pack", "kind": "best_fit", "fingerprint": "f" * 32}],
        "row_tokens": ROW_TOKENS,
        "align": 1,
        "pad_id": PAD,
        "bos_id": BOS,
        "unused_bos_id": None,
        "terminators": [[END]],
        "vocabulary_size": VOCABULARY,
        "dtype": "uint16",
        "longest_example": max(counts.pop("longest") for counts in datasets.values()),
        "datasets": datasets,
        "files": [described[path] for path in paths if path not in tables],
        "tables": [
            {
                "path": names[path],
                "rows": pq.read_metadata(path).num_rows,
                "content_digest": content_digest_of_table(path),
            }
            for path in tables
        ],
        **changes,
    }
    made = {"timings": {"pack": 0.5}, "versions": {"numpy": "2"}, "table_files": [described[path] for path in tables]}
    write_manifest(
        directory,
        sealed(Contents.model_validate_json(json.dumps(contents)), made=Made.model_validate_json(json.dumps(made))),
    )


def dataset_counts(directory: Path, name: str, row_tokens: int) -> dict[str, Any]:
    shards, collections = [], {}
    longest = 0
    for index in sorted((directory / name).glob("*.idx")):
        segments = Shard.open(index.with_suffix("")).segments
        longest = max(longest, int(segments.example_tokens.max(initial=0)))
        totals = (segments.rows, segments.examples, segments.token_starts[-1], segments.example_trained_tokens.sum())
        shards.append({"prefix": f"{name}/{index.stem}", **counts_of(("rows", "examples"), totals)})
        for record in pq.read_table(index.with_suffix(".records.parquet")).to_pylist():
            collection = collections.setdefault(record["collection"], {"tasks": {}})
            for place in (collection, collection["tasks"].setdefault(record["task"], {})):
                for key, value in (
                    ("examples", 1),
                    ("tokens", record["tokens"]),
                    ("trained_tokens", record["trained_tokens"]),
                ):
                    place[key] = place.get(key, 0) + value
    total = {key: sum(shard[key] for shard in shards) for key in ("rows", "examples", "tokens", "trained_tokens")}
    stage = {
        "name": "read",
        "in": total["examples"] + 1,
        "created": {},
        "out": total["examples"],
        "rejected": {"empty": 1},
    }
    full = fill(tokens=total["tokens"], rows=total["rows"], row_tokens=row_tokens)
    return {**total, "fill": full, "collections": collections, "stages": [stage], "shards": shards, "longest": longest}


def counts_of(first: Sequence[str], values: Sequence[Any]) -> dict[str, int]:
    return {name: int(value) for name, value in zip((*first, "tokens", "trained_tokens"), values, strict=True)}


def rewrite_curriculum(directory: Path) -> None:
    """Two epochs of what dataset main now holds."""
    counts = dataset_counts(directory, "main", ROW_TOKENS)
    sizes = {"main": DatasetSize(counts["rows"], counts["tokens"], counts["trained_tokens"])}
    phase = AskedPhase(datasets={"main": None}, epochs=2, tokens=None, training={"learning_rate": 1e-5})
    write_curriculum(directory, compiled_curriculum([phase], sizes))


def make_build(directory: Path) -> Path:
    """A sound build directory."""
    tokenizer = tiny_tokenizer()
    for folder in ("tokenizer", "main", "side"):
        (directory / folder).mkdir(parents=True)
    tokenizer.save(str(directory / "tokenizer" / "tokenizer.json"))
    for prefix, rows in ROWS.items():
        write_shard(directory, prefix, rows, tokenizer)
    rejected = [{"id": None, "collection": "cot", "file": "train.tsv", "line": 9, "stage": "read", "reason": "empty"}]
    for dataset in ("main", "side"):
        write_table(directory / dataset / "rejected.parquet", pa.Table.from_pylist(rejected, schema=rejected_schema()))
    rewrite_curriculum(directory)
    reseal(directory)
    assert read_manifest(directory).name == "tiny"
    return directory


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A sound build directory of this test's own."""
    return make_build(tmp_path / "build")


@pytest.fixture(name="reseal")
def reseal_fixture() -> Callable[..., None]:
    return reseal


@pytest.fixture(name="rewrite_curriculum")
def rewrite_curriculum_fixture() -> Callable[..., None]:
    return rewrite_curriculum


@pytest.fixture(name="write_shard")
def write_shard_fixture() -> Callable[..., None]:
    return write_shard


@pytest.fixture
def build_rows() -> dict[str, list[list[Example]]]:
    """What the build holds, by shard and row; examples can be changed by `dataclasses.replace`."""
    return dict(ROWS)


@pytest.fixture
def tokenizer() -> Tokenizer:
    return tiny_tokenizer()


@pytest.fixture
def modes() -> Callable[..., np.ndarray]:
    """Modes from (role name, trained, starts) triples."""

    def make(*triples: tuple[str, bool, bool]) -> np.ndarray:
        roles, trained, starts = (np.array(column) for column in zip(*triples, strict=True))
        return segment_modes(trained=trained, starts=starts, roles=np.array([ROLES.index(str(role)) for role in roles]))

    return make
