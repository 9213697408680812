"""Attention inside the segments of packed rows, where TransformerEngine's is not used.

Rows are packed, so a token sees those of its own example alone, and no mask the size of a row is ever made. On a GPU
one call of torch's varlen attention computes all segments; elsewhere, and for what its kernels do not take, each has a
call of its own.

N = tokens of all rows of a micro-batch, end to end; h = query heads and g = key-value heads on this rank; d = head_dim.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.transformer.transformer_config import TransformerConfig

_VARLEN = "torch.nn.attention.varlen"

_ASKED_OF_VARLEN = {"scale", "window_size", "enable_gqa"}
"""Its options that are needed; torch 2.13 has them all."""

_WIDEST_HEAD = 256
"""Of flash attention's kernels, which also take multiples of 8 alone, and GPUs from compute capability 8.0 on."""


def varlen_computes(head_dim: int, precision: torch.dtype) -> bool:
    """Tell whether torch's varlen attention is there for heads of this width on this process's GPU."""
    fits = head_dim % 8 == 0 and head_dim <= _WIDEST_HEAD and precision in (torch.bfloat16, torch.float16)
    return fits and torch.cuda.get_device_capability() >= (8, 0) and _varlen_has_all()


@dataclass
class Cache:
    """Keys and values of a text's tokens so far, float [tokens, g, d] by layer."""

    tokens: int = 0
    held: dict[torch.nn.Module, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    def joined(
        self, layer: torch.nn.Module, key_ngd: torch.Tensor, value_ngd: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Join the keys and values of all tokens to those of the next ones, and keep them."""
        if layer in self.held:
            before = self.held[layer]
            key_ngd, value_ngd = torch.cat([before[0], key_ngd]), torch.cat([before[1], value_ngd])
        self.held[layer] = key_ngd, value_ngd
        return key_ngd, value_ngd


@dataclass
class PackedSpans(PackedSeqParams):  # type: ignore[misc]
    """Bounds of packed spans as the layers need them.

    megatron-core's own bounds are left out where RoPE is given for every token: it would else read them from the device
    in each layer, and halt it.

    bounds: int32 [spans + 1], on the device. lengths: tokens of each span, on the host. positions: int64 [N], of each
    token in its span, on the device. cache: of a text that grows; its first tokens come as one span, each further one
    alone.
    """

    bounds: torch.Tensor | None = None
    lengths: list[int] = field(default_factory=list)
    positions: torch.Tensor | None = None
    cache: Cache | None = None

    @property
    def before(self) -> int:
        """Count the tokens of the text before these."""
        return 0 if self.cache is None else self.cache.tokens


class SegmentAttention(torch.nn.Module):
    """Causal attention inside each segment of packed rows, never across a bound.

    window: how many tokens back a token sees, itself among them; None where all. turned_scale: a factor of scores
    where RoPE is turned by more than angles. varlen: by torch's varlen attention.
    """

    def __init__(
        self,
        config: TransformerConfig,
        *,
        window: int | None = None,
        turned_scale: float = 1.0,
        varlen: bool = False,
        **_: Any,
    ) -> None:
        super().__init__()
        self.shared_by = config.num_attention_heads // config.num_query_groups
        self.window = window
        self.scale: float | None = config.softmax_scale
        if turned_scale != 1:
            self.scale = turned_scale * (self.scale or 1 / math.sqrt(config.kv_channels))
        self._varlen: Callable[..., torch.Tensor] | None = _varlen() if varlen else None

    def forward(
        self,
        query_Nhd: torch.Tensor,
        key_Ngd: torch.Tensor,
        value_Ngd: torch.Tensor,
        attention_mask: None,
        *,
        packed_seq_params: PackedSpans,
        **_: Any,
    ) -> torch.Tensor:
        """Returns: float [N, h, d], attended values."""
        if packed_seq_params.cache is not None:
            key_Ngd, value_Ngd = packed_seq_params.cache.joined(self, key_Ngd, value_Ngd)
            if packed_seq_params.before:
                return self._of_next(query_Nhd, key_Ngd, value_Ngd)
        if self._varlen is not None:
            bounds, longest = packed_seq_params.bounds, packed_seq_params.max_seqlen_q
            return self._varlen(
                query_Nhd,
                key_Ngd,
                value_Ngd,
                bounds,
                bounds,
                longest,
                longest,
                scale=self.scale,
                # How many tokens are seen to the left and to the right, the token itself not among them.
                window_size=(-1 if self.window is None else self.window - 1, 0),
                enable_gqa=self.shared_by > 1,
            )
        key_Nhd = key_Ngd.repeat_interleave(self.shared_by, dim=1)
        value_Nhd = value_Ngd.repeat_interleave(self.shared_by, dim=1)
        # Split once: the gradient of each slice by itself would be a tensor of the size of all rows.
        wholes = (query_Nhd, key_Nhd, value_Nhd)
        parts = zip(*(torch.split(whole, packed_seq_params.lengths) for whole in wholes), strict=True)
        return torch.cat([self._causal(query, key, value) for query, key, value in parts])

    def _of_next(self, query_1hd: torch.Tensor, key_Ngd: torch.Tensor, value_Ngd: torch.Tensor) -> torch.Tensor:
        """Attend from one token to all before it and itself."""
        seen = slice(None) if self.window is None else slice(-self.window, None)
        parts = (query_1hd, *(whole[seen].repeat_interleave(self.shared_by, dim=1) for whole in (key_Ngd, value_Ngd)))
        query, key, value = (part.transpose(0, 1).unsqueeze(0) for part in parts)
        attended = torch.nn.functional.scaled_dot_product_attention(query, key, value, scale=self.scale)
        return attended.squeeze(0).transpose(0, 1)

    def _causal(self, query_nhd: torch.Tensor, key_nhd: torch.Tensor, value_nhd: torch.Tensor) -> torch.Tensor:
        query, key, value = (part.transpose(0, 1).unsqueeze(0) for part in (query_nhd, key_nhd, value_nhd))
        length, mask_nn = len(query_nhd), None
        if self.window is not None and length > self.window:
            seen_nn = torch.ones(length, length, dtype=torch.bool, device=query.device)
            mask_nn = seen_nn.tril().triu(1 - self.window)
        attended_1hnd = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask_nn, is_causal=mask_nn is None, scale=self.scale
        )
        return attended_1hnd.squeeze(0).transpose(0, 1)


def _varlen_has_all() -> bool:
    if importlib.util.find_spec(_VARLEN) is None:
        return False
    return inspect.signature(_varlen()).parameters.keys() >= _ASKED_OF_VARLEN


def _varlen() -> Callable[..., torch.Tensor]:
    # Not at the top: older versions of torch have no such module.
    found: Callable[..., torch.Tensor] = importlib.import_module(_VARLEN).varlen_attn
    return found
