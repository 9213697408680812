"""Micro-batches through the model: forward, and backward where it learns.

B = rows of a micro-batch, T = row_tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from orca_recipes.train.data.batches import Batch, Normalization
from orca_recipes.train.model.network import losses

Hear = Callable[[Batch, torch.Tensor], None]
"""Told of every micro-batch and its weighed losses, float32 [B, T] on the device, 0 at places without one."""


def run_through(
    model: torch.nn.Module,
    batches: Iterable[Batch],
    mean_over: Normalization,
    *,
    device: torch.device,
    learn: bool,
    hear: Hear,
) -> None:
    """Run this rank's micro-batches; gradients of the summed losses are collected where it learns."""
    with torch.set_grad_enabled(learn):
        for batch in batches:
            loss_BT = _weighed(losses(model, batch.to(device)), batch, mean_over)
            if learn:
                loss_BT.sum().backward()  # type: ignore[no-untyped-call]
            hear(batch, loss_BT.detach())


def _weighed(loss_BT: torch.Tensor, batch: Batch, mean_over: Normalization) -> torch.Tensor:
    weights_BT = batch.weights_BT(mean_over).to(loss_BT.device, non_blocking=True)
    # where() before the product: a pad's loss may be NaN, and NaN * 0 is NaN.
    return torch.where(weights_BT > 0, loss_BT, 0.0) * weights_BT
