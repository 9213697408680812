"""The page of the format is enough to read a shard, and names what the code writes."""

import re
from pathlib import Path

import numpy as np

from orca_recipes import open_build
from orca_recipes.shards.layout import GUARD, LARGEST_MODE, ROLES
from orca_recipes.shards.manifest import Contents
from orca_recipes.shards.records import FLAGS, SOMETIMES, records_schema, rejected_schema
from tests.docs.conftest import DOCS, blocks

PAGE = (DOCS / "format.md").read_text(encoding="utf-8")


def test_its_reader_reads_what_ours_reads(worked: Path):
    names: dict = {}
    exec(next(text for language, text in blocks("format.md") if language == "python"), names)
    build = open_build(worked / "build" / "pairs")
    dataset = build.datasets["main"]
    rows = list(names["read_rows"](worked / "build" / "pairs" / "main" / "00000"))
    assert len(rows) == dataset.rows
    segments = [segment for row in rows for segment in row]
    bounds = [*np.flatnonzero([starts for _, _, starts, _ in segments]), len(segments)]
    examples = list(dataset.examples())
    assert len(bounds) == len(examples) + 1
    for example, first, stop in zip(examples, bounds[:-1], bounds[1:], strict=True):
        mine = segments[first:stop]
        tokens = np.concatenate([tokens for _, _, _, tokens in mine])
        trained = np.concatenate([np.full(len(tokens), is_trained) for _, is_trained, _, tokens in mine])
        assert np.array_equal(tokens, example.tokens)
        assert np.array_equal(trained, example.trained)


def test_it_names_every_column_of_the_tables():
    for name in records_schema(also=SOMETIMES).names + rejected_schema().names:
        assert f"`{name}`" in PAGE, name


def test_it_names_modes_guards_and_flags():
    assert ", ".join(f"{code} {role}" for code, role in enumerate(ROLES)) in PAGE
    assert f"largest mode is therefore {LARGEST_MODE}" in PAGE
    assert f"Sequences of mode {GUARD}" in PAGE
    flags = next(line for line in PAGE.splitlines() if line.startswith("| `flags`"))
    assert sum(map(int, re.findall(r"\b\d+ (?=[a-z])", flags.replace("int8", "")))) == FLAGS


def test_it_names_what_a_trainer_needs_by_the_manifests_words():
    needed = PAGE[PAGE.index("A trainer needs the pairs") :].split("\n\n")[0]
    for name in re.findall(r"`(\w+)`", needed):
        assert name in Contents.model_fields, name
