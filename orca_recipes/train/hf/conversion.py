"""Models in and out of Hugging Face's form, exact to the bit at any parallel layout.

An import is a checkpoint that was not trained yet; an export is a folder that transformers opens, with tokenizer, chat
template and generation settings whose end token ends an answer as training did. The digest of the manifest that a model
was trained on travels along.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from megatron.core import parallel_state

from orca_recipes.errors import BuildError, ModelError
from orca_recipes.shards import publishing
from orca_recipes.shards.layout import TOKENIZER as TOKENIZER_FILE
from orca_recipes.shards.manifest import read_manifest
from orca_recipes.train.checkpoints.checkpoint import (
    TOKENIZER,
    Checkpoint,
    load_weights,
    newest_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
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
from orca_recipes.train.hf.new_embeddings import grow
from orca_recipes.train.hf.weights import Weight, weights_of
from orca_recipes.train.model.architecture import Architecture
from orca_recipes.train.model.network import Network, build_model
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
        model = build_model(architecture, Layout(), precision=_dtype(architecture), initialize=False)
        load_hf(folder, model)
        chat = Path(made) / "chat"
        copy_chat_files(folder if build is None else build / TOKENIZER, chat)
        if build is None and not (chat / GENERATION).is_file():
            write_json(chat / GENERATION, {key: config[key] for key in _TOKEN_IDS if config.get(key) is not None})
        imported = Checkpoint(
            architecture, manifest_digest=origin.get("manifest_digest"), tokenizer_is_known=unknown is None
        )
        tokenizer = {path.name: path.read_bytes() for path in sorted(chat.iterdir())}
        return save_checkpoint(run, imported, model, keep=1, tokenizer=tokenizer), architecture


def export_hf(checkpoint: Path, folder: Path) -> Architecture:
    """Make a Hugging Face model of a checkpoint, in this process alone; the folder is there whole or not there.

    An empty folder may be there already, also as a mount point, or be linked to.
    Raises: CheckpointError; BuildError where the folder is taken.
    """
    place = publishing.followed(folder)
    if place.exists() and (not place.is_dir() or any(publishing.foreign_files(place, set()))):
        raise BuildError(f"{folder} is in the way: remove it, or name another folder to export to")
    found = read_checkpoint(checkpoint)
    publishing.put_back(place, last=CONFIG, own=_none)
    aside = publishing.make_aside(place)
    try:
        with running(Layout(), seed=1):
            model = build_model(found.architecture, Layout(), precision=_dtype(found.architecture), initialize=False)
            load_weights(checkpoint, model)
            save_hf(model, found, aside, tokenizer=checkpoint / TOKENIZER)
        publishing.put_in_place(aside, place, last=CONFIG, own=_none)
    finally:
        publishing.give_up(aside, place, last=CONFIG)
    return found.architecture


def _none(folder: Path) -> frozenset[str]:
    """Nothing that may be removed: an export takes no other's place."""
    return frozenset()


def load_hf(folder: Path, model: Network) -> None:
    """Fill a model of any layout from a Hugging Face folder; every rank calls it and reads its own part.

    Tokens that the model has and the folder has not get mean embeddings.
    Raises: ModelError where the folder holds another model.
    """
    theirs = architecture_from_hf(read_config(folder), str(folder / CONFIG))
    _check_same_model(folder, theirs, model.architecture)
    # Their tables are as long as their vocabulary, and cut where ours are.
    read = replace(theirs, padded_vocabulary_size=model.architecture.padded_vocabulary_size)
    own = dict(model.named_parameters())
    with SafetensorFiles(folder) as files, torch.no_grad():
        weights = list(weights_of(read))
        expected = {name: shape for weight in weights for name, shape in weight.theirs.items()}
        files.check(
            expected,
            title=theirs.traits.title,
            may_be_there=theirs.traits.weights["output"] if theirs.tied else (),
        )
        for weight in weights:
            own[_name(weight, own)].copy_(weight.part(files, *_tensor_place()))
    grow(model, theirs.vocabulary_size)


def save_hf(model: Network, checkpoint: Checkpoint, folder: Path, *, tokenizer: Path | None = None) -> None:
    """Write a model of any layout as a Hugging Face folder; every rank calls it, rank 0 writes.

    Args:
        checkpoint: tells the manifest and the step. tokenizer: folder with tokenizer, template, generation settings.
    """
    architecture = model.architecture
    tensors = _gathered(model)
    if torch.distributed.get_rank():
        for _ in tensors:
            pass
        return
    item = torch.empty(0, dtype=_dtype(architecture)).element_size()
    sizes = {name: item * _count(shape) for weight in weights_of(architecture) for name, shape in weight.theirs.items()}
    origin = {"manifest_digest": checkpoint.manifest_digest, "step": checkpoint.step}
    write_safetensors(folder, tensors, sizes)
    generation: dict[str, Any] = {}
    if tokenizer is not None and tokenizer.is_dir():
        copy_chat_files(tokenizer, folder)
        generation = read_generation_settings(tokenizer)
    ids = {key: generation[key] for key in _TOKEN_IDS if key in generation}
    write_json(folder / CONFIG, {**architecture_to_hf(architecture), **ids, _OURS: origin})


def added_tokens(build: Path) -> set[int]:
    """Ids of the tokens that a build's tokenizer has beside its vocabulary.

    Raises: ModelError where the tokenizer cannot be read.
    """
    path = build / TOKENIZER_FILE
    try:
        return {int(token["id"]) for token in json.loads(path.read_bytes()).get("added_tokens", [])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: it cannot be read ({error}): build again") from error


def _gathered(model: Network) -> Iterator[tuple[str, torch.Tensor]]:
    """Their tensors in the model's precision on disk, whole on the first rank, one weight at a time."""
    own = dict(model.named_parameters())
    _, size = _tensor_place()
    group = parallel_state.get_tensor_model_parallel_group()
    dtype = _dtype(model.architecture)
    for weight in weights_of(model.architecture):
        part = own[_name(weight, own)].detach()
        parts = [torch.empty_like(part) for _ in range(size)]
        torch.distributed.all_gather(parts, part.contiguous(), group=group)
        for name, tensor in weight.whole([held.cpu() for held in parts]).items():
            yield name, tensor.to(dtype)


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


def _count(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())


def _check_same_model(folder: Path, theirs: Architecture, ours: Architecture) -> None:
    fitted = replace(theirs, vocabulary_size=ours.vocabulary_size, padded_vocabulary_size=ours.padded_vocabulary_size)
    if fitted != ours or theirs.vocabulary_size > ours.vocabulary_size:
        raise ModelError(f"{folder}: it is not the model that is to be filled: name the folder that it was made from")
