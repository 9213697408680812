"""Layout of each weight in a Hugging Face checkpoint of its family, for any rank of any layout.

What theirs are called is in `families.toml`. Ours are fused and cut: query, key and value are interleaved by
key-value group, gate and up stand one above the other, and every rank holds its part of both. Nothing is computed on
the way, so the way and back is exact to the bit.

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
    """A source of weights: reads all of a tensor, some of its rows, or some of its columns."""

    def read(self, name: str, *, rows: slice = ..., columns: slice | None = ...) -> torch.Tensor: ...


@dataclass(frozen=True)
class Weight(ABC):
    """One weight of ours and the tensors it is made of. ours: its names, plain and with TransformerEngine's layers."""

    ours: tuple[str, ...]
    theirs: Mapping[str, Shape]

    @abstractmethod
    def part(self, source: Source, r: int, R: int) -> torch.Tensor:
        """Read the part of the weight that rank r holds."""

    @abstractmethod
    def whole(self, parts: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Join their tensors from the parts of all ranks in order."""


def weights_of(architecture: Architecture) -> Iterator[Weight]:
    """Yield every weight of a model, in the order of the network."""
    a, hidden, names = architecture, architecture.hidden, architecture.traits.weights
    yield _Table(
        ("embedding.word_embeddings.weight",),
        _named(names["embedding"], (a.vocabulary_size, hidden)),
        a.padded_vocabulary_size,
    )
    for layer in range(a.layers):
        yield from _layer(architecture, layer)
    yield _Whole(("decoder.final_layernorm.weight",), _named(names["final_norm"], (hidden,)))
    if not a.tied:
        yield _Table(
            ("output_layer.weight",), _named(names["output"], (a.vocabulary_size, hidden)), a.padded_vocabulary_size
        )


def _layer(architecture: Architecture, layer: int) -> Iterator[Weight]:
    a, traits = architecture, architecture.traits
    our = f"decoder.layers.{layer}."
    theirs = {role: [name.format(n=layer) for name in names] for role, names in traits.weights.items()}
    queries, keys = a.heads * a.head_dim, a.kv_heads * a.head_dim

    def norm(role: str, *ours: str) -> Weight:
        return _Whole(tuple(our + name for name in ours), _named(theirs[role], (a.hidden,)))

    if traits.norms != "after":
        yield norm("norm_before_attention", "input_layernorm.weight", "self_attention.linear_qkv.layer_norm_weight")
    heights = (queries, keys, keys)
    for part, tail in (("weight", (a.hidden,)), ("bias", ())):
        if part == "weight" or traits.qkv_bias:
            named = [f"{name}.{part}" for name in theirs["query_key_value"]]
            yield _QueryKeyValue(
                (f"{our}self_attention.linear_qkv.{part}",), _stacked(named, heights, tail), heights, a.kv_heads
            )
    for ours, role, height in (("q_layernorm", "query_norm", queries), ("k_layernorm", "key_norm", keys)):
        if traits.qk_norm == "each head":
            yield _Whole((f"{our}self_attention.{ours}.weight",), _named(theirs[role], (a.head_dim,)))
        elif traits.qk_norm == "all heads":
            yield _Rows((f"{our}self_attention.{ours}.weight",), _named(theirs[role], (height,)))
    yield _Columns(
        (f"{our}self_attention.linear_proj.weight",), _named(theirs["attention_output"], (a.hidden, queries))
    )
    if traits.norms != "before":
        yield norm("norm_after_attention", "post_attention_norm.weight")
    if traits.norms != "after":
        yield norm("norm_before_mlp", "pre_mlp_layernorm.weight", "mlp.linear_fc1.layer_norm_weight")
    inner = (a.mlp_hidden, a.mlp_hidden)
    yield _GateUp((f"{our}mlp.linear_fc1.weight",), _stacked(theirs["gate_up"], inner, (a.hidden,)), inner)
    yield _Columns((f"{our}mlp.linear_fc2.weight",), _named(theirs["mlp_output"], (a.hidden, a.mlp_hidden)))
    if traits.norms != "before":
        yield norm("norm_after_mlp", "post_mlp_norm.weight")


def _named(names: Sequence[str], shape: Shape) -> dict[str, Shape]:
    [name] = names
    return {name: shape}


def _stacked(names: Sequence[str], heights: Sequence[int], tail: Shape) -> dict[str, Shape]:
    """Return shapes of tensors that hold parts of these heights, a part each or all in one."""
    shared = (sum(heights),) if len(names) == 1 else heights
    return {name: (height, *tail) for name, height in zip(names, shared, strict=True)}


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
        return {name: _joined(parts, dim=1)}


class _Rows(Weight):
    """Cut between rows."""

    def part(self, source: Source, r: int, R: int) -> torch.Tensor:
        [(name, shape)] = self.theirs.items()
        return source.read(name, rows=_share(shape[0], r, R))

    def whole(self, parts: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        [name] = self.theirs
        return {name: _joined(parts)}


@dataclass(frozen=True)
class _Table(Weight):
    """Embeddings: cut between rows, with rows at the end that only pad it."""

    padded: int

    def part(self, source: Source, r: int, R: int) -> torch.Tensor:
        [(name, (tokens, width))] = self.theirs.items()
        mine = _share(self.padded, r, R)
        held = source.read(name, rows=slice(min(mine.start, tokens), min(mine.stop, tokens)))
        # megatron-core pads the vocabulary to divide among ranks; those rows are no tokens, and their logits are
        # masked.
        padding = held.new_zeros(mine.stop - mine.start - len(held), width)
        return torch.cat([held, padding]) if len(padding) else held

    def whole(self, parts: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        [(name, (tokens, _))] = self.theirs.items()
        return {name: _joined(parts)[:tokens]}


@dataclass(frozen=True)
class _Stack(Weight):
    """Parts of so many rows each, that each have a tensor of theirs, or stand one above the other in one."""

    heights: tuple[int, ...]

    def _shares(self, source: Source, r: int, R: int) -> list[torch.Tensor]:
        """Read a rank's rows of each stacked part."""
        held, start = [], 0
        for name, height in zip(self._names(), self.heights, strict=True):
            mine = _share(height, r, R)
            # Some families keep query, key and value in one tensor: there each part begins below the one before.
            first = start if len(self.theirs) == 1 else 0
            held.append(source.read(name, rows=slice(first + mine.start, first + mine.stop)))
            start += height
        return held

    def _named(self, parts: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        if len(self.theirs) == 1:
            return dict.fromkeys(self.theirs, _joined(parts))
        return dict(zip(self.theirs, parts, strict=True))

    def _names(self) -> list[str]:
        names = list(self.theirs)
        return names * len(self.heights) if len(names) == 1 else names


class _GateUp(_Stack):
    """On each rank its rows of the gate, then its rows of up."""

    def part(self, source: Source, r: int, R: int) -> torch.Tensor:
        return torch.cat(self._shares(source, r, R))

    def whole(self, parts: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        gates, ups = zip(*(part.chunk(2) for part in parts), strict=True)
        return self._named([torch.cat(gates), torch.cat(ups)])


@dataclass(frozen=True)
class _QueryKeyValue(_Stack):
    """For each key-value group its queries, its key, its value; whole groups on each rank. A bias has no columns."""

    groups: int

    def part(self, source: Source, r: int, R: int) -> torch.Tensor:
        held = self._shares(source, r, R)
        here, tail = self.groups // R, held[0].shape[1:]
        # megatron-core keeps the projections of a group together, so that cutting between groups cuts all three.
        return torch.cat([tensor.view(here, -1, *tail) for tensor in held], dim=1).view(-1, *tail)

    def whole(self, parts: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        tail = parts[0].shape[1:]
        by_group = _joined(parts).view(self.groups, -1, *tail)
        cut = torch.split(by_group, [height // self.groups for height in self.heights], dim=1)
        return self._named([tensor.reshape(-1, *tail) for tensor in cut])


def _joined(parts: Sequence[torch.Tensor], dim: int = 0) -> torch.Tensor:
    """Join parts end to end; nothing is copied where there is one."""
    return torch.cat(list(parts), dim=dim) if len(parts) > 1 else parts[0]


def _share(size: int, r: int, R: int) -> slice:
    return slice(size // R * r, size // R * (r + 1))
