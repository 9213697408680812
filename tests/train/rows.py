"""Packed rows made by hand, and small models for the tests of the trainer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch

from orca_recipes.train.model.architecture import Architecture
from orca_recipes.train.optimizer import Optimizer, Step


@dataclass(frozen=True)
class Packed:
    """A batch: tokens, labels int64 [B, T], mask float32 [B, T], bounds of each row."""

    tokens_BT: torch.Tensor
    labels_BT: torch.Tensor
    loss_mask_BT: torch.Tensor
    cu_seqlens: list[np.ndarray]
    wanted: torch.Tensor | None = None

    def to(self, device: str) -> "Packed":
        tensors = (self.tokens_BT, self.labels_BT, self.loss_mask_BT)
        return Packed(*(tensor.to(device) for tensor in tensors), self.cu_seqlens)

    def without_isolation(self) -> "Packed":
        whole = np.array([0, self.tokens_BT.shape[1]], dtype=np.int32)
        return replace(self, cu_seqlens=[whole] * len(self.cu_seqlens))


def packed(*rows: Sequence[int], vocabulary: int, seed: int = 0) -> Packed:
    """Rows of examples with these lengths, random tokens; the first third of each example carries no loss."""
    draw = np.random.default_rng(seed)
    total = sum(rows[0])
    tokens = draw.integers(0, vocabulary, size=(len(rows), total))
    labels, mask = np.zeros_like(tokens), np.zeros(tokens.shape, dtype=np.float32)
    bounds = [np.concatenate([[0], np.cumsum(row)]).astype(np.int32) for row in rows]
    for row, ends in enumerate(bounds):
        for start, end in pairwise(ends):
            labels[row, start : end - 1] = tokens[row, start + 1 : end]
            mask[row, start + (end - start) // 3 : end - 1] = 1
    return Packed(torch.from_numpy(tokens), torch.from_numpy(labels), torch.from_numpy(mask), bounds)


def small(vocabulary: int = 500, **changes: object) -> Architecture:
    """Two layers of width 32."""
    shape = Architecture(
        layers=2,
        hidden=32,
        mlp_hidden=64,
        heads=4,
        kv_heads=2,
        head_dim=8,
        max_positions=4096,
        rope_base=10000.0,
        norm_epsilon=1e-5,
        tied=False,
    )
    return replace(shape, **changes).with_vocabulary(vocabulary)  # type: ignore[arg-type]


def stepped(optimizer: Optimizer, *, learning_rate: float, terms: int) -> Step:
    """One step on the gradients that were collected."""
    square = optimizer.reduce(torch.tensor(terms, dtype=torch.float64))
    return optimizer.step(float(square), learning_rate=learning_rate, terms=terms)
