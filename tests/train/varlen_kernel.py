"""What flash attention computes of packed spans, for the CPU: a stand-in for the kernels of torch's varlen attention.

torch has them for CUDA alone. Here they are registered for the CPU, in terms of a mask over all tokens, so that torch's
own checks of what is handed in, and its gradient, are those of a GPU. Spans are told by their bounds, and a window by
how many tokens are seen to either side of a token, itself not among them: flash attention's documentation has it so.

N = tokens, h = query heads, g = key-value heads, d = width of a head.
"""

from typing import Any

import torch
from torch.nn.attention import varlen

CALLS: list[int] = []
"""How many spans each call in this process computed."""


@varlen._varlen_attn.register_kernel("cpu")  # type: ignore[untyped-decorator]
def _forward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    is_causal: bool = False,
    scale: float | None = None,
    window_size: list[int] | None = None,
    enable_gqa: bool = False,
    *_: Any,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    assert int(cu_seq_q.diff().max()) == max_q == max_k
    assert cu_seq_q.dtype == torch.int32
    CALLS.append(len(cu_seq_q) - 1)
    scores_hNN = _scores(query, key, cu_seq_q, scale, window_size or [-1, -1])
    attended = torch.einsum("hnm,mhd->nhd", scores_hNN.softmax(-1), _shared(value, query))
    return attended.to(query.dtype), scores_hNN.logsumexp(-1), torch.zeros(2, dtype=torch.uint64)


@varlen._varlen_attn_backward.register_kernel("cpu")  # type: ignore[untyped-decorator]
def _backward(
    grad_out: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    is_causal: bool,
    rng_state: torch.Tensor,
    scale: float | None = None,
    window_size: list[int] | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    factor, keys_Nhd, values_Nhd = _factor(query, scale), _shared(key, query), _shared(value, query)
    shares_hNN = (_scores(query, key, cu_seq_q, scale, window_size or [-1, -1]) - lse[:, :, None]).exp()
    given_Nhd = grad_out.float()
    of_shares = torch.einsum("nhd,mhd->hnm", given_Nhd, values_Nhd)
    mean_hN = (given_Nhd * out.float()).sum(-1).T
    of_scores = shares_hNN * (of_shares - mean_hN[:, :, None]) * factor
    groups = (len(key), key.shape[1], -1, key.shape[2])
    of_keys = torch.einsum("hnm,nhd->mhd", of_scores, query.float()).reshape(groups).sum(2)
    of_values = torch.einsum("hnm,nhd->mhd", shares_hNN, given_Nhd).reshape(groups).sum(2)
    of_queries = torch.einsum("hnm,mhd->nhd", of_scores, keys_Nhd)
    return of_queries.to(query.dtype), of_keys.to(key.dtype), of_values.to(value.dtype)


def _scores(
    query: torch.Tensor, key: torch.Tensor, bounds: torch.Tensor, scale: float | None, window: list[int]
) -> torch.Tensor:
    """Minus infinity where a token is not seen: float32 [h, N, N]."""
    at, lengths = torch.arange(len(query)), bounds.diff()
    span = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    back = at[:, None] - at
    seen = span[:, None] == span
    for limit, distance in zip(window, (back, -back), strict=True):
        seen &= (distance <= limit) | (limit < 0)
    scores = torch.einsum("nhd,mhd->hnm", query.float(), _shared(key, query)) * _factor(query, scale)
    return scores.masked_fill(~seen, -torch.inf)


def _factor(query: torch.Tensor, scale: float | None) -> float:
    return query.shape[-1] ** -0.5 if scale is None else scale


def _shared(whole: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    return whole.float().repeat_interleave(query.shape[1] // whole.shape[1], dim=1)
