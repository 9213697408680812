"""The layers of a model where TransformerEngine is not installed, and the choice between the two.

Rows are packed, so attention runs inside each segment alone, and no mask the size of a row is ever made. Both choices
name their weights alike in checkpoints: what one trained, the other loads.

N = tokens of all rows of a micro-batch, end to end; h = heads on this rank; d = head_dim.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from typing import Any

import torch
from megatron.core.fusions.fused_bias_dropout import get_bias_dropout_add
from megatron.core.packed_seq_params import PackedSeqParams
from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear
from megatron.core.transformer.attention import SelfAttention, SelfAttentionSubmodules
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.mlp import MLP, MLPSubmodules
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules
from megatron.core.transformer.transformer_config import TransformerConfig
from megatron.core.transformer.transformer_layer import TransformerLayer, TransformerLayerSubmodules


def layer_specs(layers: int, *, fused: bool) -> TransformerBlockSubmodules:
    """What a decoder of so many layers is made of.

    Args:
        fused: TransformerEngine's layers, which need a GPU; else the ones of this module.
    """
    layer, norm = _fused() if fused else (_plain(), RMSNorm)
    return TransformerBlockSubmodules(layer_specs=[layer] * layers, layer_norm=norm)


def transformer_engine_is_installed() -> bool:
    return importlib.util.find_spec("transformer_engine") is not None


class RMSNorm(torch.nn.Module):
    """Root mean square norm; under sequence parallel its gradient is a sum over the ranks of one copy."""

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = torch.nn.Parameter(torch.ones(hidden_size, dtype=config.params_dtype))
        # megatron-core looks for this mark when it sums gradients over tensor parallel ranks.
        self.weight.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.rms_norm(hidden, self.weight.shape, self.weight, self.eps)


@dataclass
class PackedSpans(PackedSeqParams):  # type: ignore[misc]
    """Bounds of packed spans on the device, and the tokens of each span on the host.

    Every layer asks for the lengths; read from the device, each time would halt it until it has caught up.
    """

    lengths: list[int] = field(default_factory=list)


class SegmentAttention(torch.nn.Module):
    """Causal attention inside each segment of packed rows, never across a bound."""

    def __init__(self, config: TransformerConfig, **_: Any) -> None:
        super().__init__()
        self.shared_by = config.num_attention_heads // config.num_query_groups

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
        key_Nhd = key_Ngd.repeat_interleave(self.shared_by, dim=1)
        value_Nhd = value_Ngd.repeat_interleave(self.shared_by, dim=1)
        # Split once: the gradient of each slice by itself would be a tensor of the size of all rows.
        wholes = (query_Nhd, key_Nhd, value_Nhd)
        parts = zip(*(torch.split(whole, packed_seq_params.lengths) for whole in wholes), strict=True)
        return torch.cat([_causal(query, key, value) for query, key, value in parts])


def _causal(query_nhd: torch.Tensor, key_nhd: torch.Tensor, value_nhd: torch.Tensor) -> torch.Tensor:
    query, key, value = (part.transpose(0, 1).unsqueeze(0) for part in (query_nhd, key_nhd, value_nhd))
    attended_1hnd = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    return attended_1hnd.squeeze(0).transpose(0, 1)


def _plain() -> ModuleSpec:
    attention = ModuleSpec(
        module=SelfAttention,
        params={"attn_mask_type": AttnMaskType.causal},
        submodules=SelfAttentionSubmodules(
            linear_qkv=ColumnParallelLinear, core_attention=SegmentAttention, linear_proj=RowParallelLinear
        ),
    )
    mlp = ModuleSpec(
        module=MLP, submodules=MLPSubmodules(linear_fc1=ColumnParallelLinear, linear_fc2=RowParallelLinear)
    )
    return ModuleSpec(
        module=TransformerLayer,
        submodules=TransformerLayerSubmodules(
            input_layernorm=RMSNorm,
            self_attention=attention,
            self_attn_bda=get_bias_dropout_add,
            pre_mlp_layernorm=RMSNorm,
            mlp=mlp,
            mlp_bda=get_bias_dropout_add,
            # TransformerEngine has each norm inside the layer that follows it.
            sharded_state_dict_keys_map={
                "input_layernorm.": "self_attention.linear_qkv.layer_norm_",
                "pre_mlp_layernorm.": "mlp.linear_fc1.layer_norm_",
            },
        ),
    )


def _fused() -> tuple[ModuleSpec, type]:
    from megatron.core.extensions.transformer_engine import TENorm
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_with_transformer_engine_spec

    return get_gpt_layer_with_transformer_engine_spec(), TENorm
