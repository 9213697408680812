"""Cutting and joining weights, for any shape and any number of ranks, without a process group."""

from dataclasses import dataclass, replace

import torch
from hypothesis import given
from hypothesis import strategies as st

from orca_recipes.train.hf.weights import weights_of
from orca_recipes.train.model.architecture import Architecture
from tests.train.rows import small


@dataclass
class Numbered:
    """Tensors whose every entry is another number."""

    tensors: dict[str, torch.Tensor]

    def read(self, name: str, *, rows: slice = slice(None), columns: slice | None = None) -> torch.Tensor:
        tensor = self.tensors[name]
        return tensor[rows] if columns is None else tensor[rows, columns]


@st.composite
def shapes(draw: st.DrawFn) -> tuple[Architecture, int]:
    """An architecture and a number of ranks that divides it."""
    ranks, groups, shared = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    vocabulary = draw(st.integers(1, 30))
    made = replace(
        small(),
        layers=1,
        hidden=draw(st.integers(1, 5)),
        kv_heads=ranks * groups,
        heads=ranks * groups * shared,
        head_dim=2 * draw(st.integers(1, 3)),
        mlp_hidden=ranks * draw(st.integers(1, 4)),
        tied=draw(st.booleans()),
        vocabulary_size=vocabulary,
        padded_vocabulary_size=ranks * draw(st.integers(-(-vocabulary // ranks), 40)),
    )
    return made, ranks


@given(shapes())
def test_what_ranks_hold_joins_to_what_it_was_cut_from(shape: tuple[Architecture, int]):
    architecture, ranks = shape
    held: dict[str, torch.Tensor] = {}
    for weight in weights_of(architecture):
        for name, size in weight.theirs.items():
            count = int(torch.Size(size).numel())
            held[name] = torch.arange(count, dtype=torch.float64).view(size) + 1000 * len(held)
    joined: dict[str, torch.Tensor] = {}
    for weight in weights_of(architecture):
        parts = [weight.part(Numbered(held), rank, ranks) for rank in range(ranks)]
        assert len({part.shape for part in parts}) == 1, "every rank holds as much as any other"
        joined |= weight.whole(parts)
    assert joined.keys() == held.keys()
    assert all(torch.equal(joined[name], held[name]) for name in held)
    assert sum(tensor.numel() for tensor in held.values()) == architecture.parameters
