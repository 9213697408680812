"""How each weight of the model lies in a Hugging Face LLaMA checkpoint, for any rank of any layout.

Ours are fused and cut: query, key and value are interleaved by key-value group, gate and up stand one above the other,
and every rank holds its part of both. Nothing is computed on the way, so the way and back is exact to the bit.

R = tensor parallel size, r = a rank of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from orca_recipes.train.model.architecture import Architecture

Shape = tuple[int, ...]


class Source(Protocol):
    """Where weights are read from: all of a tensor, some of its rows, or some of its columns."""

    def read(self, name: str, *, rows: slice = ..., columns: slice | None = ...) -> torch.Tensor: ...


@dataclass(frozen=True)
class Weight(ABC):
    """One weight of ours and the tensors it is made of. ours: its names, plain and with TransformerEngine's layers."""

    ours: tuple[str, ...]
    theirs: Mapping[str, Shape]

    @abstractmethod
    def part(self, source: Source, r: int, R: int) -> torch.Tensor:
        """What rank r holds."""

    @abstractmethod
    def whole(self, parts: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Their tensors, from the parts of all ranks in order."""


def weights_of(architecture: Architecture) -> Iterator[Weight]:
    """Every weight of a model, in the order of the network."""
    a, hidden = architecture, architecture.hidden
    queries, keys = a.heads * a.head_dim, a.kv_heads * a.head_dim
    yield _Table(
        ("embedding.word_embeddings.weight",),
        {"model.embed_tokens.weight": (a.vocabulary_size, hidden)},
        a.padded_vocabulary_size,
    )
    for layer in range(a.layers):
        our, their = f"decoder.layers.{layer}.", f"model.layers.{layer}."
        yield _Whole(
            (f"{our}input_layernorm.weight", f"{our}self_attention.linear_qkv.layer_norm_weight"),
            {f"{their}input_layernorm.weight": (hidden,)},
        )
        yield _QueryKeyValue(
            (f"{our}self_attention.linear_qkv.weight",),
            {
                f"{their}self_attn.q_proj.weight": (queries, hidden),
                f"{their}self_attn.k_proj.weight": (keys, hidden),
                f"{their}self_attn.v_proj.weight": (keys, hidden),
            },
            a.kv_heads,
        )
        yield _Columns(
            (f"{our}self_attention.linear_proj.weight",), {f"{their}self_attn.o_proj.weight": (hidden, queries)}
        )
        yield _Whole(
            (f"{our}pre_mlp_layernorm.weight", f"{our}mlp.linear_fc1.layer_norm_weight"),
            {f"{their}post_attention_layernorm.weight": (hidden,)},
        )
        yield _GateUp(
            (f"{our}mlp.linear_fc1.weight",),
            {
                f"{their}mlp.gate_proj.weight": (a.mlp_hidden, hidden),
                f"{their}mlp.up_proj.weight": (a.mlp_hidden, hidden),
            },
        )
        yield _Columns((f"{our}mlp.linear_fc2.weight",), {f"{their}mlp.down_proj.weight": (hidden, a.mlp_hidden)})
    yield _Whole(("decoder.final_layernorm.weight",), {"model.norm.weight": (hidden,)})
    if not a.tied:
        yield _Table(
            ("output_layer.weight",), {"lm_head.weight": (a.vocabulary_size, hidden)}, a.padded_vocabulary_size
        )


class _Whole(Weight):
    """Every rank holds all of it."""

    def part(self, source: Source, r: int, R: int) -> torch.Tensor:
        [name] = self.theirs
        return source.read(name)

    def whole(self, parts: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        [name] = self.theirs
        return {name: parts[0]}


class _Columns(Weight):
    """Cut between columns."""

    def part(self, source: Source, r: int, R: int) -> torch.Tensor:
        [(name, shape)] = self.theirs.items()
        return source.read(name, columns=_share(shape[1], r, R))

    def whole(self, parts: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        [name] = self.theirs
        return {name: torch.cat(list(parts), dim=1)}


@dataclass(frozen=True)
class _Table(Weight):
    """Embeddings: cut between rows, with rows at the end that only pad it."""

    padded: int

    def part(self, source: Source, r: int, R: int) -> torch.Tensor:
        [(name, (tokens, width))] = self.theirs.items()
        mine = _share(self.padded, r, R)
        held = source.read(name, rows=slice(min(mine.start, tokens), min(mine.stop, tokens)))
        padding = held.new_zeros(mine.stop - mine.start - len(held), width)
        return torch.cat([held, padding])

    def whole(self, parts: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        [(name, (tokens, _))] = self.theirs.items()
        return {name: torch.cat(list(parts))[:tokens]}


class _GateUp(Weight):
    """On each rank its rows of the gate, then its rows of up."""

    def part(self, source: Source, r: int, R: int) -> torch.Tensor:
        return torch.cat([source.read(name, rows=_share(shape[0], r, R)) for name, shape in self.theirs.items()])

    def whole(self, parts: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        gates, ups = zip(*(part.chunk(2) for part in parts), strict=True)
        return dict(zip(self.theirs, (torch.cat(gates), torch.cat(ups)), strict=True))


@dataclass(frozen=True)
class _QueryKeyValue(Weight):
    """For each key-value group its queries, its key, its value; whole groups on each rank."""

    groups: int

    def part(self, source: Source, r: int, R: int) -> torch.Tensor:
        held = [source.read(name, rows=_share(shape[0], r, R)) for name, shape in self.theirs.items()]
        here, width = self.groups // R, held[0].shape[1]
        return torch.cat([tensor.view(here, -1, width) for tensor in held], dim=1).view(-1, width)

    def whole(self, parts: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        width = parts[0].shape[1]
        by_group = torch.cat(list(parts)).view(self.groups, -1, width)
        heights = [shape[0] // self.groups for shape in self.theirs.values()]
        cut = torch.split(by_group, heights, dim=1)
        return {name: tensor.reshape(-1, width) for name, tensor in zip(self.theirs, cut, strict=True)}


def _share(size: int, r: int, R: int) -> slice:
    return slice(size // R * r, size // R * (r + 1))
