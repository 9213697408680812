"""Recomputation of activations: parts of a layer that are run again for their gradients, by torch's checkpointing.

megatron-core's own (`recompute_granularity`) keeps states of CUDA's generators, which a CPU has not; nothing is drawn
inside a layer, for dropout is 0, so none need be kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, Literal

from torch.utils.checkpoint import checkpoint

Recomputed = Literal["none", "core_attn", "mlp", "both", "layers"]
"""Parts of each layer, in megatron-core's words, or whole layers."""


def recompute(layers: Iterable[Any], what: Recomputed) -> None:
    """Have layers keep only what enters these parts of them, and run the parts again for their gradients."""
    for part in (part for layer in layers for part in _parts(layer, what)):
        part.forward = partial(checkpoint, part.forward, use_reentrant=False, preserve_rng_state=False)


def _parts(layer: Any, what: Recomputed) -> Iterator[Any]:
    if what == "layers":
        yield layer
    if what in ("core_attn", "both"):
        yield layer.self_attention.core_attention
    if what in ("mlp", "both"):
        yield layer.mlp
