"""The families of models that the trainer computes, read from `families.toml`.

A family is data: switches of the network, what a `config.json` must say, and the names of weights. A model whose
switches are here is computed; one that says anything else is refused in the family's own words.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from orca_recipes.errors import ModelError


@dataclass(frozen=True)
class Family:
    """The features that set a family of models apart.

    architecture: its class in transformers. title: its name in sentences. qkv_bias: query, key and value have biases.
    qk_norm: what queries and keys are normed over. norms: where they stand around attention and feed-forward layers.
    zero_centered_norms: a norm's weight is what it differs from 1 by. activation, activation_key: of the gate, and
    what `config.json` calls it. embedding_by_width: embeddings are multiplied by the root of their width. windows:
    which layers may see a window only; window_switch: the key that turns them on. rope_by_layer: layers with a window
    have RoPE of their own. unplaced: some layers have none. partial_rope: a part of each head may be without it.
    numbers: fields of the architecture and their keys. defaults: of keys that a `config.json` leaves out. must: keys,
    what they must be, and the sentence where they are not. says: keys of an export that never change. weights: their
    names by ours.
    """

    model_type: str
    architecture: str
    title: str
    qkv_bias: bool = False
    qk_norm: Literal["nothing", "each head", "all heads"] = "nothing"
    norms: Literal["before", "after", "around"] = "before"
    zero_centered_norms: bool = False
    activation: Literal["silu", "gelu_pytorch_tanh"] = "silu"
    activation_key: str = "hidden_act"
    embedding_by_width: bool = False
    windows: Literal["no layer", "every layer", "layers listed"] = "no layer"
    window_switch: str | None = None
    rope_by_layer: bool = False
    unplaced: bool = False
    partial_rope: bool = False
    numbers: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    must: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    says: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@cache
def families() -> Mapping[str, Family]:
    """Load all families, by model_type."""
    told = tomllib.loads((files("orca_recipes.train") / "families.toml").read_text(encoding="utf-8"))
    shared = told.pop("shared")
    return {model_type: _family(model_type, own, shared) for model_type, own in told.items()}


def family_named(model_type: str) -> Family:
    """Return the family of a model_type.

    Raises: ModelError where there is none of this name.
    """
    found = families().get(model_type)
    if found is None:
        raise ModelError(f"this version knows no family of models {model_type!r}: it knows {', '.join(families())}")
    return found


def _family(model_type: str, own: Mapping[str, Any], shared: Mapping[str, Any]) -> Family:
    joined = {name: {**shared[name], **own.get(name, {})} for name in ("defaults", "must", "weights")}
    joined["weights"] = {ours: tuple(theirs) for ours, theirs in joined["weights"].items()}
    return Family(model_type=model_type, **{**own, **joined})
