"""Spread of a model over processes: tensor, sequence, pipeline and data parallel by megatron-core's process groups.

Everything that can be wrong with a layout is found by `checked`, before a process group starts, from numbers alone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import torch
from megatron.core import parallel_state
from megatron.core.tensor_parallel import random as tensor_parallel_random

from orca_recipes.counted import counted
from orca_recipes.errors import LayoutError
from orca_recipes.train.megatron_versions import standing_in_for_cuda

if TYPE_CHECKING:
    from orca_recipes.train.model.architecture import Architecture

Device = Literal["cpu", "cuda"]

_SILENCE = timedelta(minutes=10)
"""How long a rank waits for the others, who may be writing a large checkpoint. One that dies is noticed at once: gloo
sees its connections close, and torchrun ends the ranks that NCCL keeps waiting."""


@dataclass(frozen=True)
class Layout:
    """So many processes, and what each of them holds.

    tensor_parallel: ranks that share each layer. data_parallel: copies, each with rows of its own.
    sequence_parallel: ranks of one copy also share the activations between the parallel layers.
    pipeline_parallel: stages, each with some of the layers.
    """

    tensor_parallel: int = 1
    data_parallel: int = 1
    sequence_parallel: bool = False
    device: Device = "cpu"
    pipeline_parallel: int = 1

    @property
    def processes(self) -> int:
        return self.tensor_parallel * self.data_parallel * self.pipeline_parallel

    def __str__(self) -> str:
        sequence = " with sequence parallel" if self.sequence_parallel else ""
        pipeline = f"pipeline parallel {self.pipeline_parallel}, " if self.pipeline_parallel > 1 else ""
        return (
            f"tensor parallel {self.tensor_parallel}{sequence}, {pipeline}data parallel {self.data_parallel} "
            f"on {self.device}"
        )


@dataclass(frozen=True)
class Place:
    """This process's place in a running layout.

    tensor_rank counts the ranks that share a layer, data_rank the copies; device is where its tensors lie; is_last of
    the stages, the one that knows losses. hosts: in which all ranks meet without their GPUs; None for the default.
    """

    rank: int
    tensor_rank: int
    data_rank: int
    device: torch.device
    is_last: bool = True
    hosts: torch.distributed.ProcessGroup | None = None

    @property
    def counts(self) -> bool:
        """Tell whether this rank's sums count; one rank of each copy does."""
        return self.tensor_rank == 0 and self.is_last


def checked(layout: Layout, architecture: Architecture, *, row_tokens: int | None = None, align: int = 1) -> Layout:
    """Check that this model and these rows can be spread so on this machine, and return the layout.

    Args:
        row_tokens: tokens of a packed row, where rows are read. align: what examples are rounded up to in it.
    Raises: LayoutError, one sentence with what to do.
    """
    _check_machine(layout)
    _check_model(layout, architecture)
    if row_tokens is not None:
        _check_rows(layout, architecture, row_tokens, align)
    return layout


@contextmanager
def running(layout: Layout, *, seed: int, rendezvous: str = "env://") -> Iterator[Place]:
    """Start the process groups of a layout, and end them.

    Rank and number of processes are torchrun's (RANK, WORLD_SIZE, LOCAL_RANK); without them this process is alone. The
    same seed gives the same full weights whatever the tensor parallel size.

    Args:
        rendezvous: where the processes meet, as `torch.distributed.init_process_group` takes it.
    Raises: LayoutError where the number of processes is not the layout's.
    """
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world != layout.processes:
        raise LayoutError(
            f"{layout} needs {layout.processes} processes and {world} were started: "
            f"start torchrun with --nproc-per-node so that there are {layout.processes}"
        )
    with ExitStack() as stack:
        device = _device(layout, stack)
        _meet(layout, rank, world, rendezvous, device)
        stack.callback(_part)
        parallel_state.initialize_model_parallel(
            tensor_model_parallel_size=layout.tensor_parallel, pipeline_model_parallel_size=layout.pipeline_parallel
        )
        _seed(seed, device)
        meets_apart = device.type == "cuda" and world > 1
        yield Place(
            rank=rank,
            tensor_rank=parallel_state.get_tensor_model_parallel_rank(),
            data_rank=parallel_state.get_data_parallel_rank(),
            device=device,
            is_last=parallel_state.is_pipeline_last_stage(),
            hosts=torch.distributed.new_group(timeout=_SILENCE, backend="gloo") if meets_apart else None,
        )


def _check_machine(layout: Layout) -> None:
    if min(layout.tensor_parallel, layout.data_parallel, layout.pipeline_parallel) < 1:
        raise LayoutError(f"{layout}: sizes are at least 1")
    if layout.device == "cuda" and not torch.cuda.is_available():
        raise LayoutError("a GPU was asked for and torch sees none on this machine: train with --device cpu")
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if layout.device == "cuda" and here > torch.cuda.device_count():
        raise LayoutError(
            f"{here} processes were started on a machine with {torch.cuda.device_count()} GPUs: start at most one each"
        )


def _check_model(layout: Layout, architecture: Architecture) -> None:
    size, stages = layout.tensor_parallel, layout.pipeline_parallel
    if architecture.layers % stages:
        fits = [n for n in range(1, architecture.layers + 1) if architecture.layers % n == 0]
        raise LayoutError(
            f"pipeline parallel {stages} does not divide the {counted(architecture.layers, 'layer')} of this model: "
            f"choose one of {', '.join(map(str, fits))}"
        )
    if layout.sequence_parallel and size == 1:
        raise LayoutError(
            "sequence parallel shares activations among tensor parallel ranks, and there is 1: raise --tensor-parallel"
        )
    for what, number in (
        ("attention heads", architecture.heads),
        ("key-value heads", architecture.kv_heads),
        ("width of its feed-forward layers", architecture.mlp_hidden),
        ("padded vocabulary", architecture.padded_vocabulary_size),
    ):
        if number % size:
            fits = [n for n in range(1, architecture.kv_heads + 1) if _divides_all(n, architecture)]
            raise LayoutError(
                f"tensor parallel {size} does not divide the {number:,} {what} of this model: "
                f"choose one of {', '.join(map(str, fits))}"
            )


def _divides_all(size: int, architecture: Architecture) -> bool:
    return not any(
        number % size
        for number in (
            architecture.heads,
            architecture.kv_heads,
            architecture.mlp_hidden,
            architecture.padded_vocabulary_size,
        )
    )


def _check_rows(layout: Layout, architecture: Architecture, row_tokens: int, align: int) -> None:
    if layout.sequence_parallel and row_tokens % layout.tensor_parallel:
        step = math.lcm(layout.tensor_parallel, align)
        raise LayoutError(
            f"sequence parallel over {layout.tensor_parallel} ranks does not divide rows of {row_tokens:,} tokens: "
            f"build with a packing.row_tokens that is a multiple of {step}, or train without sequence parallel"
        )


def _device(layout: Layout, stack: ExitStack) -> torch.device:
    if layout.device == "cpu":
        stack.enter_context(standing_in_for_cuda())
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def _meet(layout: Layout, rank: int, world: int, rendezvous: str, device: torch.device) -> None:
    backend = "gloo" if layout.device == "cpu" else "nccl"
    named = device if device.type == "cuda" else None
    if world == 1:
        # Nobody to meet: no port is opened.
        alone = torch.distributed.HashStore()  # type: ignore[attr-defined]
        torch.distributed.init_process_group(backend, store=alone, rank=0, world_size=1, device_id=named)
        return
    torch.distributed.init_process_group(
        backend, init_method=rendezvous, rank=rank, world_size=world, timeout=_SILENCE, device_id=named
    )


def _part() -> None:
    parallel_state.destroy_model_parallel()
    torch.distributed.destroy_process_group()


def _seed(seed: int, device: torch.device) -> None:
    torch.manual_seed(seed)
    # The tracker for inference is the one that needs no CUDA; with dropout 0 nothing draws from it after the start.
    tensor_parallel_random.model_parallel_cuda_manual_seed(
        seed, inference_rng_tracker=device.type == "cpu", force_reset_rng=True
    )
