"""Checkpoints: all that a run needs to go on, whole or not there, readable at any layout.

A checkpoint is a folder `step-00000200`. It is written aside and renamed when everything is on disk, so a run that is
killed in the middle leaves the one before as the newest. Weights and optimizer are written by megatron-core's
`dist_checkpointing`; `checkpoint.json` says what they belong to, and is all that is read to refuse a checkpoint of
another model or other data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from megatron.core import dist_checkpointing, parallel_state
from megatron.core.dist_checkpointing.core import CheckpointingException
from megatron.core.dist_checkpointing.mapping import ShardedObject
from torch.distributed.checkpoint.api import CheckpointException

from orca_recipes.errors import CheckpointError
from orca_recipes.train.checkpoints.background import Writing
from orca_recipes.train.checkpoints.checkpoint_files import clear, damage_found_by_all_ranks
from orca_recipes.train.checkpoints.description import Checkpoint, read_checkpoint
from orca_recipes.train.checkpoints.pickles import name_refused, reading_data_alone, refuse_strangers, stranger
from orca_recipes.train.checkpoints.publication import Publication, is_first, last_line
from orca_recipes.train.checkpoints.streamed import Weights, write_weights
from orca_recipes.train.checkpoints.writers import ending_with_their_rank, writing_alike
from orca_recipes.train.hf.new_embeddings import grow
from orca_recipes.train.megatron_versions import (
    keep_numbers_for_older,
    reading_what_older_read,
    reporting_to_this_process,
)
from orca_recipes.train.model.architecture import Architecture
from orca_recipes.train.model.network import Network
from orca_recipes.train.optimizer import Optimizer

_MISREAD = (OSError, RuntimeError, KeyError, ValueError)


def save_checkpoint(
    folder: Path,
    checkpoint: Checkpoint,
    model: Network,
    optimizer: Optimizer | None = None,
    *,
    keep: int,
    tokenizer: Mapping[str, bytes] | None = None,
) -> Path:
    """Publish a checkpoint under `folder`, then remove all but the last `keep` that do not end a phase.

    Every rank calls it. Optimizer and layout are written into the description here.

    Args:
        tokenizer: files of the student's tokenizer, written into the checkpoint so that it can be exported alone.
    Returns: the folder of the checkpoint.
    """
    publication = Publication(folder, _as_written(checkpoint, optimizer), keep, tokenizer)
    return _published(publication, lambda aside: _write_state(aside, _state(model, optimizer)))


def begin_checkpoint(
    folder: Path,
    checkpoint: Checkpoint,
    model: Network,
    optimizer: Optimizer,
    *,
    keep: int,
    tokenizer: Mapping[str, bytes] | None = None,
) -> Writing:
    """Begin to publish a checkpoint as `save_checkpoint` does, by processes of their own.

    Every rank calls it. Model and optimizer may change as soon as it returns.
    """
    publication = Publication(folder, _as_written(checkpoint, optimizer), keep, tokenizer)
    return Writing(publication, _state(model, optimizer))


def save_weights(
    folder: Path,
    checkpoint: Checkpoint,
    model: Network,
    weight_of: Callable[[str], torch.Tensor],
    *,
    tokenizer: Mapping[str, bytes],
) -> Path:
    """Publish a checkpoint of weights alone, which are made one at a time when they are written.

    Args:
        model: without weights, on one rank. weight_of: makes the weight of a name.
    Returns: the folder of the checkpoint; where it cannot be made whole, nothing is left of it.
    """
    weights = _weights_of(model)
    try:
        publication = Publication(folder, checkpoint, 1, tokenizer)
        return _published(publication, lambda aside: write_weights(aside, weights, weight_of))
    except BaseException:
        clear(folder)
        raise


def read_weights(path: Path, model: Network) -> Callable[[str], torch.Tensor]:
    """Begin to read a checkpoint's weights one at a time.

    Args:
        model: without weights, on one rank.
    Returns: what reads the weight of a name, in the model's precision.
    Raises: CheckpointError where it is not as it was written.
    """
    shards = _weights_of(model)
    _refuse_damage(path, read_checkpoint(path))
    with _readable(path):
        weights = Weights(path)

    def read(name: str) -> torch.Tensor:
        with _readable(path):
            return weights.read(shards[name])

    return read


def resume(path: Path, model: Network, optimizer: Optimizer, *, manifest_digest: str) -> Checkpoint:
    """Go on with a run: load weights, optimizer and random numbers, at any layout. Every rank calls it.

    Random numbers are only taken over by an equal layout; nothing is drawn between steps.
    Raises: CheckpointError where it belongs to another model, other data or another optimizer.
    """
    checkpoint = read_checkpoint(path)
    _check_resumable(path, checkpoint, model, optimizer, manifest_digest)
    weights = _weights_of(model)
    asked = {"model": weights, "optimizer": optimizer.sharded_state(weights, loading=True)}
    if (checkpoint.tensor_parallel, checkpoint.data_parallel, checkpoint.pipeline_parallel) == _sizes():
        asked["random"] = _random_state()
    loaded = _loaded(path, checkpoint, asked)
    _take_weights(model, loaded["model"])
    optimizer.load_state(loaded["optimizer"])
    if "random" in loaded:
        torch.set_rng_state(loaded["random"])
    return checkpoint


def load_weights(path: Path, model: Network, optimizer: Optimizer | None = None) -> Checkpoint:
    """Begin a run with the weights of a checkpoint, whatever data it saw. Every rank calls it.

    Where the model's vocabulary is larger than the checkpoint's, the tokens added since get mean embeddings.
    Args:
        optimizer: where one was built already, it is told.
    Raises: CheckpointError where it is of another model.
    """
    checkpoint = read_checkpoint(path)
    grown = _with_vocabulary_of(checkpoint.architecture, model.architecture)
    if grown != model.architecture or checkpoint.architecture.vocabulary_size > model.architecture.vocabulary_size:
        raise CheckpointError(_another_model(path, checkpoint.architecture, model.architecture))
    _take_weights(model, _loaded(path, checkpoint, {"model": _weights_of(model)})["model"])
    grow(model, checkpoint.architecture.vocabulary_size)
    if optimizer is not None:
        optimizer.weights_changed()
    return checkpoint


def _sizes() -> tuple[int, int, int]:
    return (
        parallel_state.get_tensor_model_parallel_world_size(),
        parallel_state.get_data_parallel_world_size(),
        parallel_state.get_pipeline_model_parallel_world_size(),
    )


def _as_written(checkpoint: Checkpoint, optimizer: Optimizer | None) -> Checkpoint:
    tensor, data, pipeline = _sizes()
    return replace(
        checkpoint,
        optimizer=optimizer.name if optimizer else None,
        tensor_parallel=tensor,
        data_parallel=data,
        pipeline_parallel=pipeline,
    )


def _published(publication: Publication, write: Callable[[Path], None]) -> Path:
    publication.begin()
    with publication.writing():
        write(publication.aside)
    return publication.end()


def _state(model: Network, optimizer: Optimizer | None) -> dict[str, Any]:
    if optimizer is not None:
        optimizer.gather()
    weights = _weights_of(model)
    state: dict[str, Any] = {"model": weights, "random": _random_state()}
    if optimizer is not None:
        state["optimizer"] = optimizer.sharded_state(weights, loading=False)
    return state


def _write_state(aside: Path, state: dict[str, Any]) -> None:
    with reporting_to_this_process(), ending_with_their_rank(), writing_alike():
        dist_checkpointing.save(state, str(aside))
    if is_first():
        keep_numbers_for_older(aside)


def _weights_of(model: Network) -> dict[str, Any]:
    """Return the weights without TransformerEngine's extra state, so that checkpoints with and without it are alike."""
    return {name: shard for name, shard in model.sharded_state_dict().items() if "_extra_state" not in name}


def _random_state() -> ShardedObject:
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    return ShardedObject("random", torch.get_rng_state(), (world,), (rank,))


def _loaded(path: Path, checkpoint: Checkpoint, asked: dict[str, Any]) -> dict[str, Any]:
    _refuse_damage(path, checkpoint)
    with _readable(path):
        loaded: dict[str, Any] = dist_checkpointing.load(asked, str(path))
    return loaded


def _refuse_damage(path: Path, checkpoint: Checkpoint) -> None:
    damaged = damage_found_by_all_ranks(path, checkpoint.files)
    if damaged is not None:
        raise CheckpointError(f"{path / damaged} is not as it was written; use the checkpoint before it")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    refuse_strangers(path)
    try:
        with reading_what_older_read(), reading_data_alone():
            yield
    except (CheckpointException, CheckpointingException, UnpicklingError, *_MISREAD) as error:
        if name := name_refused(error):
            raise stranger(path, name) from error
        why = last_line(error)
        raise CheckpointError(f"{path}: it cannot be read ({why}); use the checkpoint before it") from error


def _take_weights(model: Network, weights: Mapping[str, Any]) -> None:
    # Checkpoints hold no extra state of TransformerEngine, which strict loading would miss.
    left_out = model.load_state_dict(weights, strict=False)
    missing = [name for name in left_out.missing_keys if "_extra_state" not in name]
    if missing or left_out.unexpected_keys:
        raise CheckpointError(f"it does not hold the weights of this model: {missing or left_out.unexpected_keys}")


def _check_resumable(
    path: Path, checkpoint: Checkpoint, model: Network, optimizer: Optimizer, manifest_digest: str
) -> None:
    if checkpoint.architecture != model.architecture:
        raise CheckpointError(_another_model(path, checkpoint.architecture, model.architecture))
    if checkpoint.manifest_digest != manifest_digest:
        raise CheckpointError(
            f"{path} was trained on other data (manifest {checkpoint.manifest_digest}, this build is "
            f"{manifest_digest}): train into another folder, or build what it was trained on"
        )
    if checkpoint.optimizer != optimizer.name:
        raise CheckpointError(
            f"{path} holds the state of {checkpoint.optimizer}, and this run steps with {optimizer.name}: "
            "go on where it was trained, or begin a run with its weights"
        )


def _another_model(path: Path, theirs: Architecture, ours: Architecture) -> str:
    differ = [name for name, value in theirs.as_json().items() if ours.as_json()[name] != value]
    said = ", ".join(f"{name} {theirs.as_json()[name]} where this has {ours.as_json()[name]}" for name in differ)
    return f"{path} is of another model ({said}): choose the model that it was trained with, or another folder"


def _with_vocabulary_of(theirs: Architecture, ours: Architecture) -> Architecture:
    return replace(theirs, vocabulary_size=ours.vocabulary_size, padded_vocabulary_size=ours.padded_vocabulary_size)
