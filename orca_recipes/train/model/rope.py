"""Angles of RoPE and their stretchings, as transformers computes them.

Source: transformers, modeling_rope_utils.py; Llama 3's report; Peng et al., "YaRN" (2023), section 3; Ding et al.,
"LongRoPE" (2024). megatron-core's own fixes factors that a `config.json` may choose.

D = half the width of a head that is turned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch

from orca_recipes.train.model.architecture import Architecture, RopeKind, RopeScaling


def stretched(angles_D: torch.Tensor, architecture: Architecture) -> torch.Tensor:
    """Stretch the plain angles of an architecture's main RoPE, per position: float32 [D]."""
    scaling = architecture.rope_scaling
    return angles_D if scaling is None else _STRETCHED[scaling.kind](angles_D, scaling, architecture)


def turned_scale(architecture: Architecture) -> float:
    """Return the factor on products of turned queries and keys, the square of the factor on each of them."""
    scaling = architecture.rope_scaling
    if scaling is None or scaling.kind not in ("yarn", "longrope"):
        return 1.0
    if scaling.attention_factor is not None:
        return scaling.attention_factor**2
    factor = _factor(scaling, architecture)
    if scaling.kind == "longrope":
        return 1 + math.log(factor) / math.log(_original(scaling, architecture)) if factor > 1 else 1.0
    if scaling.mscale and scaling.mscale_all_dim:
        return (_concentration(factor, scaling.mscale) / _concentration(factor, scaling.mscale_all_dim)) ** 2
    return _concentration(factor, 1.0) ** 2


def _concentration(factor: float, mscale: float) -> float:
    return 0.1 * mscale * math.log(factor) + 1 if factor > 1 else 1.0


def _original(scaling: RopeScaling, architecture: Architecture) -> int:
    return scaling.original_max_positions or architecture.max_positions


def _factor(scaling: RopeScaling, architecture: Architecture) -> float:
    return scaling.factor or architecture.max_positions / _original(scaling, architecture)


def _llama3(angles_D: torch.Tensor, scaling: RopeScaling, architecture: Architecture) -> torch.Tensor:
    """Divide low frequencies by the factor, keep high ones, with a ramp between them."""
    low_factor, high_factor = scaling.low_freq_factor or 1.0, scaling.high_freq_factor or 4.0
    factor = _factor(scaling, architecture)
    wavelengths = 2 * math.pi / angles_D
    turns = _original(scaling, architecture) / wavelengths
    kept = (turns - low_factor) / (high_factor - low_factor)
    ramp = (1 - kept) * angles_D / factor + kept * angles_D
    return torch.where(turns < low_factor, angles_D / factor, torch.where(turns > high_factor, angles_D, ramp))


def _linear(angles_D: torch.Tensor, scaling: RopeScaling, architecture: Architecture) -> torch.Tensor:
    return angles_D / _factor(scaling, architecture)


def _dynamic(angles_D: torch.Tensor, scaling: RopeScaling, architecture: Architecture) -> torch.Tensor:
    """Return the angles unchanged: dynamic stretching begins beyond a model's positions, and no example is longer."""
    return angles_D


def _yarn(angles_D: torch.Tensor, scaling: RopeScaling, architecture: Architecture) -> torch.Tensor:
    """Divide by the factor, but for those that turn often within the positions it was trained at first; a ramp."""
    width, base, original = 2 * len(angles_D), architecture.rope_base, _original(scaling, architecture)

    def place(turns: float) -> float:
        return width * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))

    # transformers' defaults, which the YaRN paper found for Llama.
    low, high = place(scaling.beta_fast or 32), place(scaling.beta_slow or 1)
    if scaling.truncate is not False:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    places_D = torch.arange(len(angles_D), dtype=torch.float32, device="cpu")
    divided_D = ((places_D - low) / ((high - low) or 0.001)).clamp(0, 1).to(angles_D.device)
    return angles_D / _factor(scaling, architecture) * divided_D + angles_D * (1 - divided_D)


def _longrope(angles_D: torch.Tensor, scaling: RopeScaling, architecture: Architecture) -> torch.Tensor:
    """Divide each angle by its own short factor, the one for examples within the positions of the first training."""
    return angles_D / torch.tensor(scaling.short_factor, dtype=torch.float32, device=angles_D.device)


_STRETCHED: Mapping[RopeKind, Callable[[torch.Tensor, RopeScaling, Architecture], torch.Tensor]] = {
    "llama3": _llama3,
    "linear": _linear,
    "dynamic": _dynamic,
    "yarn": _yarn,
    "longrope": _longrope,
}
