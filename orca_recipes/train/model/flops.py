"""Model FLOPs of a step, and their share of a GPU's peak.

Model FLOPs only: what forward and backward need, not what recomputation adds. Attention counts the pairs that a causal
mask leaves inside each span, so tightly packed short examples are not credited with work that nobody does.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from importlib.resources import files
from itertools import pairwise

import torch

from orca_recipes.train.model.architecture import Architecture


def step_flops(architecture: Architecture, bounds: Iterable[Sequence[int]], *, predicted: int | None = None) -> float:
    """Count the floating-point operations of forward and backward over some rows.

    Args:
        bounds: of each row, its spans' bounds from 0 to row_tokens.
        predicted: tokens that meet the output layer; None where all do.
    Returns: 6 for each weight that a token meets (a look-up is none), and 6 * width * n * n a layer for a span of n.
    """
    tokens, pairs = 0, 0
    for row in bounds:
        tokens += row[-1]
        pairs += sum((stop - start) ** 2 for start, stop in pairwise(row))
    width = architecture.heads * architecture.head_dim
    output = architecture.vocabulary_size * architecture.hidden
    met = _weights_met(architecture) * tokens - output * (0 if predicted is None else tokens - predicted)
    return 6.0 * (met + architecture.layers * width * pairs)


def peak_flops(device: torch.device) -> float | None:
    """Return FLOP/s that the maker of a GPU states for bfloat16; None on a CPU and for a GPU that nobody listed."""
    if device.type != "cuda":
        return None
    known: dict[str, float] = tomllib.loads((files("orca_recipes.train") / "peaks.toml").read_text(encoding="utf-8"))
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in known.items() if part in name), None)


def _weights_met(architecture: Architecture) -> int:
    looked_up = 0 if architecture.tied else architecture.vocabulary_size * architecture.hidden
    return architecture.parameters - looked_up
