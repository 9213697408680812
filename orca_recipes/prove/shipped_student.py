"""The student that a build ships: tokenizer and chat template, opened from the build directory alone."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydantic import ValidationError

from orca_recipes.contract.kinds import Encoder, Tokenizer, Vocabulary
from orca_recipes.errors import OrcaError, PluginError
from orca_recipes.recipe.choice import Kinds
from orca_recipes.recipe.defaults import TOKENIZER as TOKENIZER_KIND
from orca_recipes.run.renderers.inference import Inference
from orca_recipes.shards.checks.verify_report import Finding, finding_of
from orca_recipes.shards.layout import TOKENIZER
from orca_recipes.shards.manifest import NAME, Manifest

TEMPLATE = "tokenizer/chat_template.jinja"


@dataclass(frozen=True)
class ShippedStudent:
    """A loaded tokenizer, and what inference makes of it and of the shipped template, whose text is `template`."""

    encoder: Encoder
    inference: Inference
    template: str


@dataclass(frozen=True)
class Untold:
    """The reason why nothing can be said of a student, where the build is not at fault."""

    why: str


def open_shipped(
    directory: Path, promised: Manifest, kinds: Kinds, damaged: Collection[str]
) -> ShippedStudent | Finding | Untold:
    """Open what a build ships.

    Args:
        kinds: the catalogue; the recipe in the manifest names the kind of tokenizer.
        damaged: files in which faults were found already; a damaged student is not opened.
    Returns: the student, or the fault that keeps it from being opened.
    """
    faulty = sorted(file for file in damaged if file.startswith("tokenizer/"))
    if faulty:
        return Untold(f"{faulty[0]} is damaged")
    try:
        tokenizer = _tokenizer(promised, kinds, directory)
    except (PluginError, ValidationError, KeyError, TypeError) as fault:
        said = str(fault) if isinstance(fault, PluginError) else "the manifest's recipe does not describe a tokenizer"
        return Untold(said)
    try:
        encoder = tokenizer.open(folder=directory / Path(TOKENIZER).parent)
        # As it is: newlines are part of what the settings say of it.
        template = (directory / TEMPLATE).read_bytes().decode("utf-8")
        inference = Inference(directory / TOKENIZER, template, encoder.vocabulary)
    except OrcaError as fault:
        return finding_of(fault, directory, TOKENIZER, TEMPLATE)
    except (OSError, ValueError, KeyError, TypeError) as fault:
        return Finding(TOKENIZER, f"it cannot be used with the files beside it ({fault})")
    if encoder.vocabulary.size != promised.vocabulary_size:
        size = encoder.vocabulary.size
        return Finding(
            NAME, f"it says that the vocabulary has {promised.vocabulary_size} tokens, and {TOKENIZER} {size}"
        )
    if told := _other_tokens(promised, encoder.vocabulary):
        return Finding(NAME, told)
    return ShippedStudent(encoder, inference, template)


def _other_tokens(promised: Manifest, vocabulary: Vocabulary) -> str:
    """Tell what the manifest says of BOS and pad and the shipped tokenizer does not; "" where they agree."""
    control = vocabulary.control
    bos = None if vocabulary.bos is None else control.get(vocabulary.bos)
    said = [token for token in (promised.bos_id, promised.unused_bos_id) if token is not None]
    if said != ([] if bos is None else [bos]):
        return f"it says that BOS is {_listed(said)}, and {TOKENIZER} {_listed([] if bos is None else [bos])}"
    if vocabulary.pad is not None and control.get(vocabulary.pad) != promised.pad_id:
        return f"it says that rows are filled by token {promised.pad_id}, and {TOKENIZER} {control.get(vocabulary.pad)}"
    return ""


def _listed(tokens: list[int]) -> str:
    return " and ".join(map(str, tokens)) or "none"


def _tokenizer(promised: Manifest, kinds: Kinds, directory: Path) -> Tokenizer:
    table = promised.recipe["tokenizer"]
    options = {"kind": table} if isinstance(table, str) else dict(cast("dict[str, object]", table))
    name = str(options.get("kind", TOKENIZER_KIND))
    kind = kinds.kind("orca_tokenizers", name)
    options["kind"] = name.rpartition(":")[2]
    # As JSON: kinds are strict, and pydantic then takes a list for a tuple from JSON alone.
    return cast("Tokenizer", kind.model_validate_json(json.dumps(options), context={"base": directory}))
