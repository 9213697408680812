"""Memory of a rank: what it will take, what its device has, and a sentence where that was not enough.

What is kept for the gradients is counted from the shapes alone, as torch's autograd keeps it, layer by layer; the rest
of a step, its temporary tensors and the buffers of its meetings, is not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from orca_recipes.errors import OutOfMemory
from orca_recipes.train.model.architecture import Architecture
from orca_recipes.train.model.fusion import can_be_compiled
from orca_recipes.train.processes.parallel_layout import Layout
from orca_recipes.train.training_settings import Settings

_LESS = "lower --micro-batch-rows, take --recompute, or raise --tensor-parallel or --pipeline-parallel"

_NO_ROOM_ON_HOST = "DefaultCPUAllocator"
"""What torch's message of a CPU without memory begins with; it has no class of its own."""


def held_bytes(architecture: Architecture, layout: Layout) -> float:
    """Count the bytes of weights, gradients, AdamW's two moments; on a GPU bfloat16 weights beside float32 that
    ranks share."""
    here = architecture.parameters / layout.tensor_parallel / layout.pipeline_parallel
    # Bytes: float32 four times; on a GPU bf16 weight, fp32 gradient, and 12 shared by the copies.
    return here * (16 if layout.device == "cpu" else 6 + 12 / layout.data_parallel)


def activation_bytes(settings: Settings, architecture: Architecture, layout: Layout) -> float:
    """Estimate the bytes that are kept for the gradients of a micro-batch, and the logits and their gradient."""
    training, manifest = settings.chosen[0].training, settings.manifest
    tokens = training.micro_batch_rows * manifest.row_tokens
    width = 4 if layout.device == "cpu" else 2
    attention, mlp, rest = _of_a_layer(architecture, layout, training.recompute_modules)
    here = architecture.layers / layout.pipeline_parallel
    # What is recomputed is there for one layer at a time.
    if training.recompute:
        kept = attention + mlp + rest + here * architecture.hidden
    elif training.recompute_modules in ("mlp", "both"):
        kept = mlp + here * (attention + rest)
    else:
        kept = here * (attention + mlp + rest)
    # The first stage holds the activations of as many micro-batches as there are stages.
    kept *= tokens * layout.pipeline_parallel
    predicted = tokens * (1 if layout.sequence_parallel else _trained_share(settings))
    logits = 2 * predicted * architecture.padded_vocabulary_size / layout.tensor_parallel
    return (kept + logits) * width


def device_bytes(layout: Layout) -> int:
    """Return the memory of a rank's device: its GPU's, or its share of this machine's."""
    if layout.device == "cuda":
        return int(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", layout.processes))
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // here


def memory_told(settings: Settings, architecture: Architecture, layout: Layout) -> str:
    """Describe the memory of a rank, and what to do where its device has less."""
    held, kept = held_bytes(architecture, layout), activation_bytes(settings, architecture, layout)
    there = device_bytes(layout)
    whose = "its GPU has" if layout.device == "cuda" else "its share of this machine is"
    told = (
        f"memory of a rank: about {size_told(held)} of weights, gradients and optimizer, and {size_told(kept)} of "
        f"activations; {whose} {size_told(there)}"
    )
    return told if held + kept < there else f"{told}, which may not be enough: {_LESS}"


@contextmanager
def telling_of_no_memory(layout: Layout, rank: int) -> Iterator[None]:
    """Say inside that the memory of a device was not enough, and what to do.

    Raises: OutOfMemory.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        is_told = isinstance(error, torch.OutOfMemoryError | MemoryError) or _NO_ROOM_ON_HOST in str(error)
        if not is_told:
            raise
        where = "the GPU" if layout.device == "cuda" else "the machine"
        raise OutOfMemory(
            f"rank {rank}: the memory of {where} ({size_told(device_bytes(layout))}) is not enough; {_LESS}, and run "
            "the same command again"
        ) from error


def size_told(number: float) -> str:
    """Format bytes for a person: "1.4 GB"."""
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number / 1e3:.1f} kB"


def _of_a_layer(architecture: Architecture, layout: Layout, again: str) -> tuple[float, float, float]:
    """Count the numbers that a token leaves in attention, in the feed-forward layer, and beside both."""
    traits, is_cpu, parts = architecture.traits, layout.device == "cpu", layout.tensor_parallel
    queries = architecture.heads * architecture.head_dim / parts
    keys = architecture.kv_heads * architecture.head_dim / parts
    # Projections, both turned by RoPE, and what was attended; calls for each span have keys and values of each head.
    attention = 3 * queries + 3 * keys + (3 * queries if is_cpu else 0)
    if again in ("core_attn", "both"):
        attention -= 3 * queries if is_cpu else queries
    # torch's norm keeps its input on a GPU, and all that it computes on a CPU.
    of_norm = 3 if is_cpu else 1
    attention += of_norm * (queries + keys) if traits.qk_norm != "nothing" else 0
    is_fused = not is_cpu and traits.activation == "silu" and can_be_compiled()
    mlp = (3 if is_fused else 4) * architecture.mlp_hidden / parts
    whole = architecture.hidden / (parts if layout.sequence_parallel else 1)
    norms = 4 if traits.norms == "around" else 2
    return attention, mlp, (norms * of_norm + 2) * whole


def _trained_share(settings: Settings) -> float:
    """Return the share of a row's places whose losses are asked for, of the first phase."""
    held = [settings.manifest.datasets[name] for name in settings.chosen[0].taken]
    places = sum(counts.rows for counts in held) * settings.manifest.row_tokens
    return sum(counts.trained_tokens for counts in held) / places
