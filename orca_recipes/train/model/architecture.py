"""The shape of a model: its family and its numbers.

An architecture comes from a Hugging Face `config.json` or from a named entry of `models.toml`, goes into every
checkpoint, and comes out as a `config.json` again. What its family computes is in `families.toml`.

The vocabulary has two sizes: tokens that mean something, and the padded size of the embedding, one for every parallel
layout. Columns between the two are never predicted.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib.resources import files
from typing import Any, Literal

from orca_recipes.errors import ModelError
from orca_recipes.train.model.families import Family, family_named

Precision = Literal["float32", "bfloat16", "float16"]
RopeKind = Literal["llama3", "linear", "dynamic", "yarn", "longrope"]

_PAD_TO = 128
"""The padded vocabulary is a multiple of this, so that every usual tensor parallel size divides it."""


@dataclass(frozen=True)
class RopeScaling:
    """A stretching of RoPE, with the numbers that its kind has; `rope.py` applies it."""

    factor: float | None = None
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    original_max_positions: int | None = None
    kind: RopeKind = "llama3"
    beta_fast: float | None = None
    beta_slow: float | None = None
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool | None = None
    short_factor: tuple[float, ...] = ()
    long_factor: tuple[float, ...] = ()


@dataclass(frozen=True)
class Architecture:
    """Numbers that make a model of a family.

    heads and kv_heads count query heads and key-value heads, head_dim their width; mlp_hidden is the width inside a
    feed-forward layer; tied: the output layer is the embedding. precision is that of the weights on disk where the
    model was imported from, and of an export. vocabulary_size counts tokens, padded_vocabulary_size rows of the
    embedding; both are 0 until a vocabulary is known.

    rotary_share: the part of each head that RoPE turns. window: how many tokens back, itself among them, a token of the
    windowed_layers sees; these have RoPE of window_rope_base where it is given. unplaced_layers have no RoPE.
    embedding_multiplier, residual_multiplier: of embeddings, and of what a layer adds. attention_multiplier: of scores,
    in place of the root of head_dim; query_scalar: a number in place of head_dim under that root. logits_divisor:
    logits are divided by it.
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
    family: str = "llama"
    rotary_share: float = 1.0
    window: int | None = None
    windowed_layers: tuple[int, ...] = ()
    window_rope_base: float | None = None
    unplaced_layers: tuple[int, ...] = ()
    embedding_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    attention_multiplier: float | None = None
    query_scalar: float | None = None
    logits_divisor: float = 1.0

    @property
    def traits(self) -> Family:
        """Return features of the model's family."""
        return family_named(self.family)

    @property
    def embedding_scale(self) -> float:
        """Factor applied to embeddings."""
        return math.sqrt(self.hidden) if self.traits.embedding_by_width else self.embedding_multiplier

    @property
    def attention_scale(self) -> float | None:
        """Factor applied to products of queries and keys; None for 1 over the root of head_dim."""
        return self.attention_multiplier if self.query_scalar is None else self.query_scalar**-0.5

    @property
    def longest_example(self) -> int:
        """Return tokens of the longest example that it can be trained on."""
        scaling = self.rope_scaling
        if scaling is not None and scaling.kind == "longrope" and scaling.original_max_positions is not None:
            # Beyond, every angle of an example would change with its length.
            return min(self.max_positions, scaling.original_max_positions)
        return self.max_positions

    @property
    def parameters(self) -> int:
        """Return weights, without the padding of the vocabulary."""
        traits, queries, keys = self.traits, self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = 2 * self.hidden * (queries + keys) + (queries + 2 * keys if traits.qkv_bias else 0)
        qk_norms = {"nothing": 0, "each head": 2 * self.head_dim, "all heads": queries + keys}[traits.qk_norm]
        norms = self.hidden * (4 if traits.norms == "around" else 2)
        layer = attention + qk_norms + 3 * self.hidden * self.mlp_hidden + norms
        embeddings = self.vocabulary_size * self.hidden * (1 if self.tied else 2)
        return self.layers * layer + embeddings + self.hidden

    def with_vocabulary(self, size: int, *, added: Collection[int] = ()) -> Architecture:
        """Fit the model to a build's vocabulary; an embedding larger than the build's is kept as it is.

        Args:
            size: of the build's vocabulary, with added tokens. added: ids of tokens that the build's tokenizer added,
                the only ones that a trained embedding may be enlarged for.
        Raises: ModelError where the vocabulary is larger than the embedding for another reason.
        """
        if not self.vocabulary_size:
            return replace(self, vocabulary_size=size, padded_vocabulary_size=padded(size))
        strangers = [token for token in range(self.vocabulary_size, size) if token not in added]
        if strangers:
            raise ModelError(
                f"the build's vocabulary of {size:,} tokens is larger than the model's embedding of "
                f"{self.vocabulary_size:,}, and token {strangers[0]:,} is no added token: "
                "build with the tokenizer that belongs to this model"
            )
        grown = max(size, self.vocabulary_size)
        # What is in a checkpoint stays: its padding may have room for the added tokens.
        room = max(self.padded_vocabulary_size, padded(grown))
        return replace(self, vocabulary_size=grown, padded_vocabulary_size=room)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Architecture:
        """Restore the result of `as_json`.

        Raises: ModelError where it is not that.
        """
        scaling = found.get("rope_scaling")
        try:
            made = cls(
                **{**_with_tuples(found), "rope_scaling": RopeScaling(**_with_tuples(scaling)) if scaling else None}
            )
            family_named(made.family)
            return made
        except TypeError as error:
            raise ModelError(f"it describes no architecture that this version knows ({error})") from error


def named_architecture(name: str) -> Architecture:
    """Load an architecture from `models.toml`, without a vocabulary.

    Raises: ModelError, with the names that there are.
    """
    known = tomllib.loads((files("orca_recipes.train") / "models.toml").read_text(encoding="utf-8"))
    if name not in known:
        raise ModelError(
            f"there is no architecture {name!r}: choose {', '.join(known)}, or the folder of a Hugging Face model"
        )
    return Architecture(**known[name])


def padded(vocabulary: int) -> int:
    """Round a vocabulary up to the rows of its padded embedding."""
    return math.ceil(vocabulary / _PAD_TO) * _PAD_TO


def checked(made: Architecture, where: str) -> Architecture:
    """Check that an architecture's numbers fit together, and return it.

    Raises: ModelError where they do not.
    """
    for field in fields(made):
        value = getattr(made, field.name)
        if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0:
            raise ModelError(f"{where}: {field.name} is {value}: fetch the model again")
    if made.heads % made.kv_heads or made.head_dim % 2:
        raise ModelError(
            f"{where}: {made.heads} heads of {made.head_dim} over {made.kv_heads} key-value heads do not share evenly: "
            "fetch the model again"
        )
    return made


def _with_tuples(found: Mapping[str, Any]) -> dict[str, Any]:
    """Turn lists from JSON back into tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
