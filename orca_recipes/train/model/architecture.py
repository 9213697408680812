"""The shape of a model of the LLaMA family: RMSNorm, SwiGLU, RoPE, grouped-query attention, no biases.

An architecture is numbers only. It comes from a Hugging Face `config.json` or from a named entry of `models.toml`, goes
into every checkpoint, and comes out as a `config.json` again. What this family does not have is refused by name, so no
model is ever computed almost right.

The vocabulary has two sizes: tokens that mean something, and the padded size of the embedding, one for every parallel
layout. Columns between the two are never predicted.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib.resources import files
from typing import Any, Literal, get_args

from orca_recipes.errors import ModelError

Precision = Literal["float32", "bfloat16", "float16"]

_PAD_TO = 128
"""The padded vocabulary is a multiple of this, so that every usual tensor parallel size divides it."""


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3's stretching of RoPE: low frequencies divided by factor, high ones kept, a ramp between them.

    `network.py` applies it.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int


@dataclass(frozen=True)
class Architecture:
    """Numbers that make a model.

    heads and kv_heads count query heads and key-value heads, head_dim their width; mlp_hidden is the width inside a
    feed-forward layer; tied: the output layer is the embedding. precision is that of the weights on disk where the
    model was imported from, and of an export. vocabulary_size counts tokens, padded_vocabulary_size rows of the
    embedding; both are 0 until a vocabulary is known.
    """

    layers: int
    hidden: int
    mlp_hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    max_positions: int
    rope_base: float
    norm_epsilon: float
    tied: bool
    rope_scaling: RopeScaling | None = None
    precision: Precision = "float32"
    initializer_range: float = 0.02
    vocabulary_size: int = 0
    padded_vocabulary_size: int = 0

    @property
    def parameters(self) -> int:
        """Weights, without the padding of the vocabulary."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        layer = attention + 3 * self.hidden * self.mlp_hidden + 2 * self.hidden
        embeddings = self.vocabulary_size * self.hidden * (1 if self.tied else 2)
        return self.layers * layer + embeddings + self.hidden

    def with_vocabulary(self, size: int, *, added: Collection[int] = ()) -> Architecture:
        """The same model for a build's vocabulary; a larger embedding than the build's is kept as it is.

        Args:
            size: of the build's vocabulary, with added tokens. added: ids of tokens that the build's tokenizer added,
                the only ones that a trained embedding may be enlarged for.
        Raises: ModelError where the vocabulary is larger than the embedding for another reason.
        """
        if not self.vocabulary_size:
            return replace(self, vocabulary_size=size, padded_vocabulary_size=_padded(size))
        strangers = [token for token in range(self.vocabulary_size, size) if token not in added]
        if strangers:
            raise ModelError(
                f"the build's vocabulary of {size:,} tokens is larger than the model's embedding of "
                f"{self.vocabulary_size:,}, and token {strangers[0]:,} is no added token: "
                "build with the tokenizer that belongs to this model"
            )
        grown = max(size, self.vocabulary_size)
        # What is in a checkpoint stays: its padding may have room for the added tokens.
        padded = max(self.padded_vocabulary_size, _padded(grown))
        return replace(self, vocabulary_size=grown, padded_vocabulary_size=padded)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Architecture:
        """What `as_json` gave.

        Raises: ModelError where it is not that.
        """
        scaling = found.get("rope_scaling")
        try:
            return cls(**{**found, "rope_scaling": RopeScaling(**scaling) if scaling else None})
        except TypeError as error:
            raise ModelError(f"it describes no architecture that this version knows ({error})") from error


def named_architecture(name: str) -> Architecture:
    """An architecture of `models.toml`, without a vocabulary.

    Raises: ModelError, with the names that there are.
    """
    known = tomllib.loads((files("orca_recipes.train") / "models.toml").read_text(encoding="utf-8"))
    if name not in known:
        raise ModelError(
            f"there is no architecture {name!r}: choose {', '.join(known)}, or the folder of a Hugging Face model"
        )
    return Architecture(**known[name])


def architecture_from_hf(config: Mapping[str, Any], where: str) -> Architecture:
    """The architecture of a Hugging Face `config.json`, in the spelling of any version of transformers.

    Args:
        where: named in complaints.
    Raises: ModelError for another family, and for what this family does not have.
    """
    _refuse_strangers(config, where)
    try:
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        vocabulary = int(config["vocab_size"])
        rope = _rope(config)
        made = Architecture(
            layers=int(config["num_hidden_layers"]),
            hidden=hidden,
            mlp_hidden=int(config["intermediate_size"]),
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or hidden // heads),
            max_positions=int(config["max_position_embeddings"]),
            rope_base=float(rope.get("rope_theta", 10_000.0)),
            norm_epsilon=float(config.get("rms_norm_eps", 1e-6)),
            tied=bool(config.get("tie_word_embeddings", False)),
            rope_scaling=_scaling(rope, where),
            precision=_precision(config, where),
            initializer_range=float(config.get("initializer_range", 0.02)),
            vocabulary_size=vocabulary,
            padded_vocabulary_size=_padded(vocabulary),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{where}: it is no configuration of a LLaMA model ({error}): fetch it again") from error
    _check_numbers(made, where)
    return made


def architecture_to_hf(architecture: Architecture) -> dict[str, Any]:
    """A `config.json` for transformers, without token ids."""
    scaling = architecture.rope_scaling
    rope: dict[str, Any] = {"rope_theta": architecture.rope_base, "rope_type": "default"}
    if scaling is not None:
        rope |= {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_max_positions,
        }
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "dtype": architecture.precision,
        "head_dim": architecture.head_dim,
        "hidden_act": "silu",
        "hidden_size": architecture.hidden,
        "initializer_range": architecture.initializer_range,
        "intermediate_size": architecture.mlp_hidden,
        "max_position_embeddings": architecture.max_positions,
        "mlp_bias": False,
        "num_attention_heads": architecture.heads,
        "num_hidden_layers": architecture.layers,
        "num_key_value_heads": architecture.kv_heads,
        "rms_norm_eps": architecture.norm_epsilon,
        "rope_parameters": rope,
        # The older spelling of the same, for programs that read no newer one.
        "rope_theta": architecture.rope_base,
        "rope_scaling": None if scaling is None else {key: rope[key] for key in rope if key != "rope_theta"},
        "tie_word_embeddings": architecture.tied,
        "torch_dtype": architecture.precision,
        "vocab_size": architecture.vocabulary_size,
    }


def _padded(size: int) -> int:
    return math.ceil(size / _PAD_TO) * _PAD_TO


_MUST_BE: Mapping[str, tuple[Any, str]] = {
    "hidden_act": ("silu", "an activation other than silu"),
    "attention_bias": (False, "biases in its attention"),
    "mlp_bias": (False, "biases in its feed-forward layers"),
    "attention_dropout": (0, "dropout"),
    "quantization_config": (None, "quantized weights"),
    "sliding_window": (None, "sliding-window attention"),
    "num_local_experts": (None, "experts"),
    "partial_rotary_factor": (1, "RoPE on a part of each head"),
}


def _refuse_strangers(config: Mapping[str, Any], where: str) -> None:
    names = config.get("architectures") or ["LlamaForCausalLM"]
    family = config.get("model_type")
    if family != "llama" or names != ["LlamaForCausalLM"]:
        raise ModelError(
            f"{where}: its architecture is {', '.join(map(str, names))} (model_type {family!r}), and the trainer knows "
            "LlamaForCausalLM: choose a model of the LLaMA family"
        )
    for key, (needed, what) in _MUST_BE.items():
        found = config.get(key, needed)
        if found is not None and found != needed:
            raise ModelError(
                f"{where}: {key} = {found!r}: the trainer has no {what}: choose a model of the LLaMA family without it"
            )


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """Base and scaling, which transformers 5 keeps in one table and older versions in two places."""
    older = dict(config.get("rope_scaling") or {})
    if "rope_theta" in config:
        older["rope_theta"] = config["rope_theta"]
    return {**older, **(config.get("rope_parameters") or {})}


def _scaling(rope: Mapping[str, Any], where: str) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise ModelError(
            f"{where}: its RoPE is scaled by {kind!r}, and the trainer knows llama3's scaling and none: choose another"
        )
    return RopeScaling(
        factor=float(rope["factor"]),
        low_freq_factor=float(rope["low_freq_factor"]),
        high_freq_factor=float(rope["high_freq_factor"]),
        original_max_positions=int(rope["original_max_position_embeddings"]),
    )


def _precision(config: Mapping[str, Any], where: str) -> Precision:
    named = config.get("dtype") or config.get("torch_dtype") or "float32"
    for precision in get_args(Precision):
        if named == precision:
            return precision  # type: ignore[no-any-return]
    raise ModelError(f"{where}: its weights are {named}: the trainer reads {', '.join(get_args(Precision))}")


def _check_numbers(made: Architecture, where: str) -> None:
    for field in fields(made):
        value = getattr(made, field.name)
        if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0:
            raise ModelError(f"{where}: {field.name} is {value}: fetch the model again")
    if made.heads % made.kv_heads or made.head_dim % 2:
        raise ModelError(
            f"{where}: {made.heads} heads of {made.head_dim} over {made.kv_heads} key-value heads do not share evenly: "
            "fetch the model again"
        )
