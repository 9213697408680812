"""Weights into a checkpoint and out of it one at a time, so that no model is ever held whole.

The files are those of megatron-core's checkpoints, whose writer wants all weights at once; each weight is cut into
pieces, of which one is written at a time.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from megatron.core import dist_checkpointing
from megatron.core.dist_checkpointing.dict_utils import nested_values
from megatron.core.dist_checkpointing.mapping import ShardedTensor, ShardedTensorFactory
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list

from orca_recipes.shards.files import write_whole
from orca_recipes.train.checkpoints.pickles import METADATA
from orca_recipes.train.checkpoints.writers import ending_with_their_rank
from orca_recipes.train.megatron_versions import keep_numbers_for_older, reporting_to_this_process

_FILE = "__0_0.distcp"
"""As the only rank of a run calls its first file."""

# A piece is copied to be written, so this bounds the memory beyond one weight.
_PIECE_BYTES = 32_000_000

Shards = Any
"""How megatron-core describes a weight, by a ShardedTensor or a ShardedTensorFactory; its data are of device meta."""


def write_weights(folder: Path, shards: Mapping[str, Shards], weight_of: Callable[[str], torch.Tensor]) -> None:
    """Write a checkpoint's weights into a folder that is empty.

    Args:
        shards: megatron-core's description of each weight, by name; whole ones, of a model on one rank.
        weight_of: makes a weight when it is written.
    Raises: OSError.
    """
    # What megatron-core has beside weights: its own version, and numbers that are no tensors.
    with reporting_to_this_process(), ending_with_their_rank():
        dist_checkpointing.save({}, str(folder))
    keep_numbers_for_older(folder)
    metadata = Metadata(state_dict_metadata={})
    places: dict[MetadataIndex, _StorageInfo] = {}
    with (folder / _FILE).open("wb") as file:
        for name, described in shards.items():
            for shard in _with_weight(described, weight_of(name).contiguous()):
                told = metadata.state_dict_metadata.setdefault(
                    shard.key, TensorStorageMetadata(TensorProperties(shard.dtype), torch.Size(shard.global_shape), [])
                )
                assert isinstance(told, TensorStorageMetadata)
                for first, piece in _pieces(shard.data):
                    chunk, start = _chunk(shard, first, piece), file.tell()
                    # A view's whole storage would be written.
                    torch.save(piece.clone().view(chunk.sizes), file)
                    size = file.tell() - start
                    index = MetadataIndex(shard.key, chunk.offsets, len(told.chunks))
                    told.chunks.append(chunk)
                    places[index] = _StorageInfo(_FILE, start, size)
        file.flush()
        os.fsync(file.fileno())
    # As torch's writer ends, but for the folder and the random number that it would put into it.
    metadata.storage_data = places
    write_whole(folder / METADATA, pickle.dumps(metadata))


class Weights:
    """The weights of a checkpoint whose files were found to be as they were written, each read when it is asked for.

    megatron-core reads all layers of a weight at once where there is one rank, so torch's reader is asked itself.
    """

    def __init__(self, path: Path) -> None:
        self._reader = FileSystemReader(path)
        self._metadata = self._reader.read_metadata()
        self._reader.set_up_storage_reader(self._metadata, is_coordinator=True)

    def read(self, described: Shards) -> torch.Tensor:
        """Read one weight, in the precision of its description.

        Raises: KeyError, ValueError where the checkpoint does not hold it.
        """
        weight = torch.empty_like(described.data, device="cpu")
        for shard in _with_weight(described, weight):
            told = self._metadata.state_dict_metadata[shard.key]
            if not isinstance(told, TensorStorageMetadata) or told.size != torch.Size(shard.global_shape):
                raise ValueError(f"{shard.key} is not of the shape {tuple(shard.global_shape)}")
            chunk = _chunk(shard, 0, shard.data)
            # A view: what is read into it is read into the weight.
            target = shard.data.view(chunk.sizes)
            assert target.untyped_storage().data_ptr() == weight.untyped_storage().data_ptr()
            items = create_read_items_for_chunk_list(shard.key, told, [chunk])
            self._reader.read_data(LoadPlan(items), _Into(target)).wait()
        return weight


class _Into(DefaultLoadPlanner):
    """Has everything be read into one tensor."""

    def __init__(self, target: torch.Tensor) -> None:
        super().__init__()
        self._target = target

    def lookup_tensor(self, index: MetadataIndex) -> torch.Tensor:
        return self._target


def _with_weight(described: Shards, weight: torch.Tensor) -> list[ShardedTensor]:
    """Describe a weight in its stored form: one tensor, or the parts megatron-core keeps apart, such as gate and up."""
    hollow = described.data
    described.data = weight
    try:
        if isinstance(described, ShardedTensorFactory):
            return list(nested_values(described.build()))
        return [replace(described)]
    finally:
        described.data = hollow


def _pieces(weight: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield some rows at a time: the first, and the piece."""
    rows = max(1, _PIECE_BYTES * len(weight) // max(weight.nbytes, 1))
    for first in range(0, len(weight), rows):
        yield first, weight[first : first + rows]


def _chunk(shard: ShardedTensor, first: int, piece: torch.Tensor) -> ChunkStorageMetadata:
    """Return the offsets and sizes of a piece within the weight of all layers."""
    before, offset = shard.prepend_axis_num, list(shard.global_offset)
    offset[before] += first
    return ChunkStorageMetadata(offsets=torch.Size(offset), sizes=torch.Size([*[1] * before, *piece.shape]))
