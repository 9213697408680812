"""Random models of the families, as transformers makes and saves them, and of what the trainer refuses."""

import json
import random
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers

    transformers.utils.logging.disable_progress_bar()

Draw = Callable[[random.Random, int], dict[str, Any]]

HEAD = 16
"""Width of a head."""
POSITIONS = 256


def rope(**more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_theta": 10_000.0, **more}}


ROPES: list[dict[str, Any]] = [
    rope(rope_type="default"),
    rope(rope_type="linear", factor=4.0),
    rope(rope_type="dynamic", factor=4.0),
    rope(rope_type="yarn", factor=4.0, original_max_position_embeddings=32),
    rope(rope_type="yarn", factor=8.0, original_max_position_embeddings=32, beta_fast=16.0, attention_factor=0.7),
    rope(
        rope_type="yarn",
        factor=4.0,
        original_max_position_embeddings=64,
        mscale=0.8,
        mscale_all_dim=1.2,
        truncate=False,
    ),
    rope(
        rope_type="llama3",
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=32,
    ),
]
"""Every stretching that all families may have."""


def _some_rope(chance: random.Random, layers: int) -> dict[str, Any]:
    return json.loads(json.dumps(chance.choice(ROPES)))  # type: ignore[no-any-return]


def _qwen(chance: random.Random, layers: int) -> dict[str, Any]:
    windowed = {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": chance.randrange(layers)}
    return {**_some_rope(chance, layers), **chance.choice([{}, windowed])}


def _mistral(chance: random.Random, layers: int) -> dict[str, Any]:
    return {**_some_rope(chance, layers), "sliding_window": chance.choice([None, 9])}


def _smollm3(chance: random.Random, layers: int) -> dict[str, Any]:
    placed = [chance.randrange(2) for _ in range(layers)]
    window = chance.choice([{}, {"use_sliding_window": True, "sliding_window": 9}])
    return {**_some_rope(chance, layers), "no_rope_layers": placed, **window}


def _gemma3(chance: random.Random, layers: int) -> dict[str, Any]:
    scaling = chance.choice([{"rope_type": "default"}, {"rope_type": "linear", "factor": 8.0}])
    return {
        "rope_parameters": {
            "full_attention": {"rope_theta": 1e6, **scaling},
            "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
        },
        "layer_types": [chance.choice(["sliding_attention", "full_attention"]) for _ in range(layers)],
        "sliding_window": 9,
        "query_pre_attn_scalar": chance.choice([HEAD, 24]),
    }


def _granite(chance: random.Random, layers: int) -> dict[str, Any]:
    return {
        **_some_rope(chance, layers),
        "embedding_multiplier": 12.0,
        "residual_multiplier": 0.22,
        "attention_multiplier": chance.choice([0.0625, 0.2]),
        "logits_scaling": 8.0,
    }


def _phi3(chance: random.Random, layers: int) -> dict[str, Any]:
    partly = rope(rope_type="default", partial_rotary_factor=0.75)
    factors = {"short_factor": [1.0 + n / 4 for n in range(HEAD // 2)], "long_factor": [8.0] * (HEAD // 2)}
    longer = {**rope(rope_type="longrope", **factors), "original_max_position_embeddings": POSITIONS // 2}
    chosen = chance.choice([rope(rope_type="default"), partly, longer])
    return {**json.loads(json.dumps(chosen)), "sliding_window": chance.choice([None, 9])}


FAMILIES: Mapping[str, tuple[str, Draw]] = {
    "llama": ("Llama", _some_rope),
    "mistral": ("Mistral", _mistral),
    "qwen2": ("Qwen2", _qwen),
    "qwen3": ("Qwen3", _qwen),
    "olmo2": ("Olmo2", _some_rope),
    "gemma3_text": ("Gemma3", _gemma3),
    "smollm3": ("SmolLM3", _smollm3),
    "granite": ("Granite", _granite),
    "phi3": ("Phi3", _phi3),
}


def random_configuration(family: str, seed: int) -> dict[str, Any]:
    """The settings of a small model of a family."""
    chance = random.Random(f"{family} {seed}")
    layers, heads = chance.randint(2, 4), chance.choice([4, 8])
    return {
        "vocab_size": chance.choice([500, 501]),
        "hidden_size": heads * HEAD,
        "intermediate_size": 96,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": chance.choice([2, 4]),
        "head_dim": HEAD,
        "max_position_embeddings": POSITIONS,
        "tie_word_embeddings": chance.choice([True, False]),
        "rms_norm_eps": chance.choice([1e-5, 1e-6]),
        "initializer_range": 0.1,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        **FAMILIES[family][1](chance, layers),
    }


def saved_configuration(family: str, seed: int, **changes: Any) -> dict[str, Any]:
    """What the `config.json` of a random model says."""
    said: dict[str, Any] = _settings(family, seed, **changes).to_dict()
    return {**said, "architectures": [_named(family)]}


def save_random(folder: Path, family: str, seed: int, *, dtype: torch.dtype = torch.float32, **changes: Any) -> Path:
    """A random model of a family as transformers saves it: no weight is what it would be if it were not there."""
    torch.manual_seed(seed)
    model = getattr(transformers, _named(family))(_settings(family, seed, **changes))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:
                weight += torch.randn_like(weight) * 0.2
    model.to(dtype).save_pretrained(folder)
    return folder


def _named(family: str) -> str:
    return f"{FAMILIES[family][0]}ForCausalLM"


def _settings(family: str, seed: int, **changes: Any) -> Any:
    name = FAMILIES[family][0]
    made = {**random_configuration(family, seed), **changes}
    return getattr(transformers, f"{name}TextConfig" if name == "Gemma3" else f"{name}Config")(**made)


_STRANGE_SHAPES: Mapping[str, Mapping[str, Any]] = {
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS},
    "gpt_neox": {"intermediate_size": 96},
    "falcon": {},
    "stablelm": {"intermediate_size": 96},
    "starcoder2": {"intermediate_size": 96},
    "cohere": {"intermediate_size": 96},
    "gemma2": {"intermediate_size": 96, "head_dim": HEAD},
    "mixtral": {"intermediate_size": 96, "num_local_experts": 4},
    "llama": {"intermediate_size": 96, "attention_bias": True},
    "qwen3": {"intermediate_size": 96, "head_dim": HEAD, "hidden_act": "gelu"},
}
"""Families that the trainer does not compute, and two models of known ones with what it has not."""

REFUSED = tuple(_STRANGE_SHAPES)


def save_refused(folder: Path, model_type: str, seed: int) -> Path:
    """A random model that the trainer refuses, as transformers saves it."""
    chance = random.Random(f"{model_type} {seed}")
    heads = chance.choice([2, 4])
    shared = {
        "vocab_size": chance.choice([500, 501]),
        "hidden_size": heads * HEAD,
        "num_hidden_layers": chance.randint(1, 3),
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    own = dict(_STRANGE_SHAPES[model_type])
    kept = {key: shared[key] for key in shared if model_type != "gpt2" or key.endswith(("_id", "vocab_size"))}
    settings = transformers.AutoConfig.for_model(model_type, **{**kept, **own})
    torch.manual_seed(seed)
    transformers.AutoModelForCausalLM.from_config(settings).save_pretrained(folder)
    return folder


def witness_logits(folder: Path, tokens_BT: torch.Tensor) -> torch.Tensor:
    """What transformers makes of a saved model: float32 [B, T, V]."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        found: torch.Tensor = model(tokens_BT).logits
    return found
