"""Cross entropy of labels where each tensor parallel rank holds a part of the vocabulary, some rows at a time.

megatron-core's own makes a float32 copy of all logits and keeps it for the gradient; its fused one needs torch.compile,
and gives gradients in bfloat16 whatever the logits are. Here the logits are kept as they are: a few rows at a time are
looked at in float32, forward and backward, and the ranks meet twice.

n = places, v = part of the vocabulary on this rank.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from megatron.core import parallel_state

_AT_ONCE = 1 << 22
"""Logits that are looked at together, about: 16 MB in float32."""


def cross_entropy(logits_nv: torch.Tensor, labels_n: torch.Tensor) -> torch.Tensor:
    """Compute float32 [n], the loss of each label; the ranks of a tensor parallel group call it together.

    Args:
        logits_nv: minus infinity beyond the vocabulary. labels_n: int64, tokens of the whole vocabulary.
    """
    found: torch.Tensor = _CrossEntropy.apply(logits_nv, labels_n)  # type: ignore[no-untyped-call]
    return found


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_nv: torch.Tensor, labels_n: torch.Tensor) -> torch.Tensor:
        group = parallel_state.get_tensor_model_parallel_group()
        first = parallel_state.get_tensor_model_parallel_rank() * logits_nv.shape[-1]
        own_n = labels_n - first
        is_own_n = (own_n >= 0) & (own_n < logits_nv.shape[-1])
        own_n = torch.where(is_own_n, own_n, 0)
        highest_n = logits_nv.amax(dim=-1).float()
        torch.distributed.all_reduce(highest_n, torch.distributed.ReduceOp.MAX, group=group)
        # Of each place the sum of exponents, and the label's logit, which one of the ranks holds.
        sums_2n = torch.empty(2, len(labels_n), dtype=torch.float32, device=logits_nv.device)
        for rows in _rows(logits_nv):
            scores = logits_nv[rows].float() - highest_n[rows, None]
            label_n = scores.gather(1, own_n[rows, None])[:, 0]
            sums_2n[1, rows] = torch.where(is_own_n[rows], label_n, 0.0)
            sums_2n[0, rows] = scores.exp_().sum(dim=-1)
        torch.distributed.all_reduce(sums_2n, group=group)
        logs_n = sums_2n[0].log()
        ctx.save_for_backward(logits_nv, own_n, is_own_n, highest_n + logs_n)
        return logs_n - sums_2n[1]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        logits_nv, own_n, is_own_n, logs_n = ctx.saved_tensors
        [gradient_n] = gradients
        found_nv = torch.empty_like(logits_nv)
        for rows in _rows(logits_nv):
            shares = (logits_nv[rows].float() - logs_n[rows, None]).exp_()
            shares.scatter_add_(1, own_n[rows, None], -is_own_n[rows, None].float())
            found_nv[rows] = shares.mul_(gradient_n[rows, None])
        return found_nv, None


def _rows(logits_nv: torch.Tensor) -> Iterator[slice]:
    places, width = logits_nv.shape
    step = max(1, _AT_ONCE // width)
    for start in range(0, places, step):
        yield slice(start, start + step)
