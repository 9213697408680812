"""The `config.json` of a Hugging Face model, as an architecture and back.

It is read in the spelling of any version of transformers, and written so that old and new ones read it. What the
trainer does not compute is refused by name, so no model is ever computed almost right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args

from orca_recipes.errors import ModelError
from orca_recipes.train.model.architecture import (
    Architecture,
    Precision,
    RopeKind,
    RopeScaling,
    checked,
    padded,
)
from orca_recipes.train.model.families import Family, families
from orca_recipes.train.model.rope import turned_scale

_WINDOWED, _FULL = "sliding_attention", "full_attention"
_POSITIONS = "original_max_position_embeddings"
_NEEDED: Mapping[RopeKind, tuple[str, ...]] = {
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": (),
    "longrope": ("short_factor", "long_factor"),
}
# The first Phi-3 configurations call LongRoPE "su".
_OLDER_NAMES: Mapping[str, RopeKind] = {"su": "longrope"}
_ROPE_KEYS = {field.name: field.name for field in fields(RopeScaling)} | {
    "kind": "rope_type",
    "original_max_positions": _POSITIONS,
}
"""What a `config.json` calls the numbers of a stretching."""


def architecture_from_hf(config: Mapping[str, Any], where: str) -> Architecture:
    """Read the architecture from a Hugging Face `config.json`, in the spelling of any version of transformers.

    Args:
        where: named in complaints.
    Raises: ModelError for another family, and for what its family does not have here.
    """
    family = _family(config, where)
    config = {**family.defaults, **{key: value for key, value in config.items() if value is not None}}
    _refuse_strangers(config, family, where)
    try:
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        layers, vocabulary = int(config["num_hidden_layers"]), int(config["vocab_size"])
        rope, window_rope = _rope(config, family)
        window, windowed = _windows(config, family, layers)
        made = Architecture(
            family=family.model_type,
            layers=layers,
            hidden=hidden,
            mlp_hidden=int(config["intermediate_size"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or hidden // heads),
            max_positions=int(config["max_position_embeddings"]),
            rope_base=float(rope["rope_theta"]),
            norm_epsilon=float(config["rms_norm_eps"]),
            tied=bool(config["tie_word_embeddings"]),
            rope_scaling=_scaling(rope, config, where),
            precision=_precision(config, where),
            initializer_range=float(config["initializer_range"]),
            vocabulary_size=vocabulary,
            padded_vocabulary_size=padded(vocabulary),
            rotary_share=float(rope.get("partial_rotary_factor", 1.0)),
            window=window,
            windowed_layers=windowed,
            window_rope_base=None if window_rope is None else float(window_rope["rope_theta"]),
            unplaced_layers=_unplaced(config, layers) if family.unplaced else (),
            **{ours: float(config[theirs]) for ours, theirs in family.numbers.items()},
        )
        turned = turned_scale(made)
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelError(
            f"{where}: it is no configuration of a {family.title} model ({error}): fetch it again"
        ) from error
    if window_rope is not None and window_rope.get("rope_type", "default") != "default":
        raise ModelError(f"{where}: the trainer stretches no RoPE of layers with a window: choose a model without it")
    if made.rotary_share != 1 and (not family.partial_rope or turned != 1):
        what = "turns each head whole" if not family.partial_rope else "scales no part of a head"
        raise ModelError(
            f"{where}: partial_rotary_factor = {made.rotary_share}: the trainer {what}: choose a model that does"
        )
    return checked(made, where)


def architecture_to_hf(architecture: Architecture) -> dict[str, Any]:
    """Write a `config.json` for transformers, without token ids."""
    family = architecture.traits
    numbers = {theirs: getattr(architecture, ours) for ours, theirs in family.numbers.items()}
    return {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        "attention_dropout": 0.0,
        "dtype": architecture.precision,
        "head_dim": architecture.head_dim,
        family.activation_key: family.activation,
        "hidden_size": architecture.hidden,
        "initializer_range": architecture.initializer_range,
        "intermediate_size": architecture.mlp_hidden,
        "max_position_embeddings": architecture.max_positions,
        "num_attention_heads": architecture.heads,
        "num_hidden_layers": architecture.layers,
        "num_key_value_heads": architecture.kv_heads,
        "rms_norm_eps": architecture.norm_epsilon,
        "tie_word_embeddings": architecture.tied,
        # Older versions of transformers read this key, newer ones `dtype`.
        "torch_dtype": architecture.precision,
        "vocab_size": architecture.vocabulary_size,
        **family.says,
        # transformers takes no float for what it declares whole.
        **{key: int(value) if float(value).is_integer() else value for key, value in numbers.items()},
        **_rope_told(architecture, family),
        **_windows_told(architecture, family),
    }


def _family(config: Mapping[str, Any], where: str) -> Family:
    known = families()
    family = known.get(str(config.get("model_type")))
    names = config.get("architectures") or [family.architecture if family else "none"]
    if family is None or names != [family.architecture]:
        raise ModelError(
            f"{where}: its architecture is {', '.join(map(str, names))} (model_type {config.get('model_type')!r}), and "
            f"the trainer knows {', '.join(each.architecture for each in known.values())}: "
            "choose a model of one of these families"
        )
    return family


def _refuse_strangers(config: Mapping[str, Any], family: Family, where: str) -> None:
    found = config.get(family.activation_key, family.activation)
    if found != family.activation:
        raise ModelError(
            f"{where}: {family.activation_key} = {found!r}: the trainer has no activation but {family.activation} in "
            f"this family: choose a {family.title} model with it"
        )
    for key, rule in family.must.items():
        if key in config and config[key] != rule.get("be"):
            raise ModelError(
                f"{where}: {key} = {config[key]!r}: {rule['otherwise']}: choose a {family.title} model without it"
            )
    if family.windows == "no layer" and config.get("sliding_window") is not None:
        raise ModelError(
            f"{where}: sliding_window = {config['sliding_window']!r}: the trainer has no windows in the attention of "
            f"this family: choose a {family.title} model without it"
        )


def _rope(config: Mapping[str, Any], family: Family) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return base and scaling of all layers, and of those with a window where theirs is another.

    transformers 5 keeps them in one table, and older versions in two places.
    """
    older = {**(config.get("rope_scaling") or {}), "rope_theta": config["rope_theta"]}
    if "partial_rotary_factor" in config:
        older["partial_rotary_factor"] = config["partial_rotary_factor"]
    newer = config.get("rope_parameters") or {}
    if not family.rope_by_layer:
        return {**older, **_given(newer)}, None
    local = {"rope_theta": config["rope_local_base_freq"], **_given(newer.get(_WINDOWED) or {})}
    return {**older, **_given(newer.get(_FULL) or {})}, local


def _given(told: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in told.items() if value is not None}


def _scaling(rope: Mapping[str, Any], config: Mapping[str, Any], where: str) -> RopeScaling | None:
    named = str(rope.get("rope_type", rope.get("type", "default")))
    kind = _OLDER_NAMES.get(named, named)
    if kind == "default":
        return None
    if kind not in get_args(RopeKind):
        raise ModelError(
            f"{where}: its RoPE is scaled by {kind!r}, and the trainer knows {', '.join(get_args(RopeKind))}: "
            "choose a model with one of these, or with none"
        )
    told = {**rope, **_given({_POSITIONS: config.get(_POSITIONS)}), "rope_type": kind}
    missing = [key for key in _NEEDED[kind] if told.get(key) is None]  # type: ignore[index]
    if missing:
        raise ModelError(f"{where}: its RoPE is scaled by {kind} without {', '.join(missing)}: fetch it again")
    numbers = {ours: told[theirs] for ours, theirs in _ROPE_KEYS.items() if told.get(theirs) is not None}
    return RopeScaling(**{name: _number(value) for name, value in numbers.items()})


def _number(value: Any) -> Any:
    """Convert a value of a `config.json` for an architecture: a list becomes a tuple of floats."""
    if isinstance(value, list):
        return tuple(float(one) for one in value)
    return value if isinstance(value, bool | str | int) else float(value)


def _rope_told(architecture: Architecture, family: Family) -> dict[str, Any]:
    scaling = architecture.rope_scaling
    rope: dict[str, Any] = {"rope_theta": architecture.rope_base, "rope_type": "default"}
    if scaling is not None:
        found = {theirs: getattr(scaling, ours) for ours, theirs in _ROPE_KEYS.items()}
        rope |= {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in found.items()
            if value not in (None, ())
        }
    if family.partial_rope:
        rope["partial_rotary_factor"] = architecture.rotary_share
    # The older spelling of the same, for programs that read no newer one.
    told: dict[str, Any] = {
        "rope_theta": architecture.rope_base,
        "rope_scaling": None if scaling is None else {key: rope[key] for key in rope if key != "rope_theta"},
    }
    if family.partial_rope:
        told["partial_rotary_factor"] = architecture.rotary_share
        if scaling is not None:
            told[_POSITIONS] = scaling.original_max_positions
    if not family.rope_by_layer:
        return {**told, "rope_parameters": rope}
    local = {"rope_theta": architecture.window_rope_base, "rope_type": "default"}
    return {
        **told,
        "rope_local_base_freq": architecture.window_rope_base,
        "rope_parameters": {_FULL: rope, _WINDOWED: local},
    }


def _windows(config: Mapping[str, Any], family: Family, layers: int) -> tuple[int | None, tuple[int, ...]]:
    """Return the window in tokens and the layers that have it; None and no layers where there is none."""
    window = config.get("sliding_window")
    is_off = family.window_switch is not None and not config.get(family.window_switch, False)
    if window is None or is_off or family.windows == "no layer":
        return None, ()
    every = range(layers)
    if family.windows == "every layer":
        found = list(every)
    elif "layer_types" in config:
        found = [n for n in every if config["layer_types"][n] == _WINDOWED]
    elif "sliding_window_pattern" in config:
        found = [n for n in every if (n + 1) % int(config["sliding_window_pattern"])]
    elif family.unplaced:
        found = list(_unplaced(config, layers))
    else:
        found = list(every)[int(config["max_window_layers"]) :]
    return (int(window), tuple(found)) if found else (None, ())


def _unplaced(config: Mapping[str, Any], layers: int) -> tuple[int, ...]:
    """Return layers without RoPE."""
    listed = config.get("no_rope_layers")
    interval = int(config["no_rope_layer_interval"])
    return tuple(n for n in range(layers) if not (listed[n] if listed else (n + 1) % interval))


def _windows_told(architecture: Architecture, family: Family) -> dict[str, Any]:
    every, window = range(architecture.layers), architecture.window
    told: dict[str, Any] = {}
    if family.windows != "no layer":
        told["sliding_window"] = window
    if family.windows == "layers listed":
        told["layer_types"] = [_WINDOWED if n in architecture.windowed_layers else _FULL for n in every]
    if family.window_switch is not None:
        told[family.window_switch] = window is not None
    if family.unplaced:
        told["no_rope_layers"] = [int(n not in architecture.unplaced_layers) for n in every]
    return told


def _precision(config: Mapping[str, Any], where: str) -> Precision:
    named = config.get("dtype") or config.get("torch_dtype") or "float32"
    for precision in get_args(Precision):
        if named == precision:
            return precision  # type: ignore[no-any-return]
    raise ModelError(f"{where}: its weights are {named}: the trainer reads {', '.join(get_args(Precision))}")
