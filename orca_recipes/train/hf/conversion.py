"""Models in and out of Hugging Face's form, exact to the bit at any parallel layout.

An import is a checkpoint that was not trained yet; an export is a folder that transformers opens, with tokenizer, chat
template and generation settings whose end token ends an answer as training did. The digest of the manifest that a model
was trained on travels along.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from megatron.core import parallel_state

from orca_recipes.errors import BuildError, ModelError
from orca_recipes.json_text import json_value
from orca_recipes.shards import publishing
from orca_recipes.shards.layout import TOKENIZER as TOKENIZER_FILE
from orca_recipes.shards.manifest import read_manifest
from orca_recipes.train.checkpoints.checkpoint import read_weights, save_weights
from orca_recipes.train.checkpoints.description import TOKENIZER, Checkpoint, newest_checkpoint, read_checkpoint
from orca_recipes.train.data.vocabulary import what_is_unknown
from orca_recipes.train.hf.configuration import architecture_from_hf, architecture_to_hf
from orca_recipes.train.hf.model_folder import (
    CONFIG,
    GENERATION,
    SafetensorFiles,
    copy_chat_files,
    read_config,
    read_generation_settings,
    write_json,
    write_safetensors,
)
from orca_recipes.train.hf.new_embeddings import grow_table
from orca_recipes.train.hf.weights import Weight, weights_of
from orca_recipes.train.model.architecture import Architecture
from orca_recipes.train.model.network import TABLES, Network, hollow_model
from orca_recipes.train.processes.parallel_layout import Layout, running

_OURS = "orca_recipes"
"""Key of `config.json` that holds where a model comes from."""

_TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def _to_nobody(sentence: str) -> None:
    pass


def import_hf(
    folder: Path, run: Path, *, build: Path | None = None, say: Callable[[str], None] = _to_nobody
) -> tuple[Path, Architecture]:
    """Make a checkpoint of a Hugging Face model, in its own precision, in this process alone.

    Args:
        run: the checkpoint is `run/step-00000000`. build: one whose added tokens the model shall have, and whose
            tokenizer it shall carry. say: told what could not be checked.
    Returns: the checkpoint and what it is of.
    Raises: ModelError, DamagedShard; BuildError where run holds checkpoints, or build is none.
    """
    if newest_checkpoint(run) is not None:
        raise BuildError(f"{run} holds checkpoints already: name another folder to import into")
    config = read_config(folder)
    architecture = architecture_from_hf(config, str(folder / CONFIG))
    unknown = None
    if build is not None:
        unknown = what_is_unknown(folder, folder, build, known=architecture.vocabulary_size)
        if unknown is not None:
            say(unknown)
        vocabulary = read_manifest(build).vocabulary_size
        architecture = architecture.with_vocabulary(vocabulary, added=added_tokens(build))
    origin = config.get(_OURS) or {}
    with tempfile.TemporaryDirectory() as made, running(Layout(), seed=1):
        chat = Path(made) / "chat"
        copy_chat_files(folder if build is None else build / TOKENIZER, chat)
        # Older models name their end tokens in config.json alone: without them `generate` would never stop.
        if build is None and not (chat / GENERATION).is_file():
            write_json(chat / GENERATION, {key: config[key] for key in _TOKEN_IDS if config.get(key) is not None})
        imported = Checkpoint(
            architecture, manifest_digest=origin.get("manifest_digest"), tokenizer_is_known=unknown is None
        )
        tokenizer = {path.name: path.read_bytes() for path in sorted(chat.iterdir())}
        dtype = _dtype(architecture)
        model = hollow_model(architecture, dtype)
        theirs = _Theirs(folder, architecture)
        written = save_weights(run, imported, model, lambda name: theirs.weight(name).to(dtype), tokenizer=tokenizer)
        return written, architecture


def export_hf(checkpoint: Path, folder: Path) -> Architecture:
    """Make a Hugging Face model of a checkpoint, in this process alone; the folder is there whole or not there.

    An empty folder may be there already, also as a mount point, or be linked to.
    Raises: CheckpointError; BuildError where the folder is taken.
    """
    place = publishing.followed(folder)
    if place.exists() and (not place.is_dir() or any(publishing.foreign_files(place, set()))):
        raise BuildError(f"{folder} is in the way: remove it, or name another folder to export to")
    found = read_checkpoint(checkpoint)
    # What an export that was killed put aside comes back first, or two folders would claim the name.
    publishing.put_back(place, last=CONFIG, own=_none)
    aside = publishing.make_aside(place)
    try:
        with running(Layout(), seed=1):
            model = hollow_model(found.architecture, _dtype(found.architecture))
            _write_model(aside, found, _exported(model, read_weights(checkpoint, model)), checkpoint / TOKENIZER)
        publishing.put_in_place(aside, place, last=CONFIG, own=_none)
    finally:
        publishing.give_up(aside, place, last=CONFIG)
    return found.architecture


def _none(folder: Path) -> frozenset[str]:
    """List no file as removable: an export replaces no other folder."""
    return frozenset()


def load_hf(folder: Path, model: Network) -> None:
    """Fill a model of any layout from a Hugging Face folder; every rank calls it and reads its own part.

    Tokens that the model has and the folder has not get mean embeddings.
    Raises: ModelError where the folder holds another model.
    """
    theirs, names = _Theirs(folder, model.architecture), model.whole_names()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(theirs.weight(names[name]))


class _Theirs:
    """The weights of a Hugging Face folder as those of a whole model, each read when it is asked for, this rank's part.

    Raises: ModelError where the folder holds another model.
    """

    def __init__(self, folder: Path, architecture: Architecture) -> None:
        self._architecture = architecture
        theirs = architecture_from_hf(read_config(folder), str(folder / CONFIG))
        _check_same_model(folder, theirs, self._architecture)
        # Their tables are as long as their vocabulary, and cut where ours are.
        read = replace(theirs, padded_vocabulary_size=self._architecture.padded_vocabulary_size)
        weights = list(weights_of(read))
        self._weights = {name: weight for weight in weights for name in weight.ours}
        self._tokens = theirs.vocabulary_size
        self._files = SafetensorFiles(folder)
        self._files.check(
            {name: shape for weight in weights for name, shape in weight.theirs.items()},
            title=theirs.traits.title,
            may_be_there=theirs.traits.weights["output"] if theirs.tied else (),
        )

    def weight(self, name: str) -> torch.Tensor:
        """Read this rank's part of a weight; new tokens get the mean of all others. Every rank asks for the same."""
        found = self._weights[name].part(self._files, *_tensor_place())
        if name in TABLES and self._tokens < self._architecture.vocabulary_size:
            # The tensor is a view of a mapped file, which cannot be written.
            found = found.clone()
            grow_table(found, self._tokens, self._architecture.vocabulary_size)
        return found


def _exported(model: Network, weight_of: Callable[[str], torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    own = dict(model.named_parameters())
    for weight in weights_of(model.architecture):
        yield from weight.whole([weight_of(_name(weight, own))]).items()


def _write_model(
    folder: Path, checkpoint: Checkpoint, tensors: Iterator[tuple[str, torch.Tensor]], tokenizer: Path
) -> None:
    architecture = checkpoint.architecture
    shapes = {name: shape for weight in weights_of(architecture) for name, shape in weight.theirs.items()}
    origin = {"manifest_digest": checkpoint.manifest_digest, "step": checkpoint.step}
    write_safetensors(folder, tensors, shapes, _dtype(architecture))
    generation: dict[str, Any] = {}
    if tokenizer.is_dir():
        copy_chat_files(tokenizer, folder)
        generation = read_generation_settings(tokenizer)
    ids = {key: generation[key] for key in _TOKEN_IDS if key in generation}
    write_json(folder / CONFIG, {**architecture_to_hf(architecture), **ids, _OURS: origin})


def added_tokens(build: Path) -> set[int]:
    """Return ids of the tokens that a build's tokenizer has beside its vocabulary.

    Raises: ModelError where the tokenizer cannot be read.
    """
    path = build / TOKENIZER_FILE
    try:
        return {int(token["id"]) for token in json_value(path.read_bytes()).get("added_tokens", [])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: it cannot be read ({error}): build again") from error


def _name(weight: Weight, own: Mapping[str, object]) -> str:
    return next(name for name in weight.ours if name in own)


def _tensor_place() -> tuple[int, int]:
    return (
        parallel_state.get_tensor_model_parallel_rank(),
        parallel_state.get_tensor_model_parallel_world_size(),
    )


def _dtype(architecture: Architecture) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, architecture.precision)
    return dtype


def _check_same_model(folder: Path, theirs: Architecture, ours: Architecture) -> None:
    fitted = replace(theirs, vocabulary_size=ours.vocabulary_size, padded_vocabulary_size=ours.padded_vocabulary_size)
    # A larger vocabulary of theirs would lose rows of its table, some of which a prompt may hold.
    if fitted != ours or theirs.vocabulary_size > ours.vocabulary_size:
        raise ModelError(f"{folder}: it is not the model that is to be filled: name the folder that it was made from")
