"""The layers of a model where TransformerEngine is not installed, and the choice between the two.

Both choices name their weights alike in checkpoints: what one trained, the other loads.

N = tokens of all rows of a micro-batch, end to end; h = heads on this rank; d = head_dim.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.fusions.fused_bias_dropout import get_bias_dropout_add
from megatron.core.models.common.embeddings.rotary_pos_embedding import RotaryEmbedding
from megatron.core.tensor_parallel import (
    ColumnParallelLinear,
    RowParallelLinear,
    copy_to_tensor_model_parallel_region,
    reduce_from_tensor_model_parallel_region,
    set_tensor_model_parallel_attributes,
)
from megatron.core.transformer.attention import SelfAttention, SelfAttentionSubmodules
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.identity_op import IdentityOp
from megatron.core.transformer.mlp import MLP, MLPSubmodules
from megatron.core.transformer.spec_utils import ModuleSpec
from megatron.core.transformer.transformer_block import TransformerBlockSubmodules
from megatron.core.transformer.transformer_config import TransformerConfig
from megatron.core.transformer.transformer_layer import TransformerLayer, TransformerLayerSubmodules
from megatron.core.transformer.utils import make_sharded_tensors_for_checkpoint

from orca_recipes.train.model.architecture import Architecture
from orca_recipes.train.model.rope import turned_scale
from orca_recipes.train.model.segment_attention import PackedSpans, SegmentAttention


def layer_specs(
    architecture: Architecture, layers: Sequence[int], *, fused: bool, varlen: bool = False
) -> TransformerBlockSubmodules:
    """Specify the layers of a model's decoder, or of one pipeline stage of it.

    Args:
        layers: that it holds, counted through the model.
        fused: TransformerEngine's layers, which need a GPU; else the ones of this module.
        varlen: where they are ours, with torch's varlen attention.
    """
    if fused:
        layer, norm = _fused(architecture)
        return TransformerBlockSubmodules(layer_specs=[layer] * len(layers), layer_norm=norm)
    # Made once: layers that share their RoPE share its table.
    rope = partial(_window_angles, _WindowRope(architecture)) if architecture.window_rope_base is not None else None
    plain = [_plain(architecture, n, rope, varlen=varlen) for n in layers]
    return TransformerBlockSubmodules(layer_specs=plain, layer_norm=RMSNorm)


def transformer_engine_computes(architecture: Architecture) -> bool:
    """Tell whether TransformerEngine's layers, as megatron-core builds them, compute this model; else ours do."""
    traits = architecture.traits
    return (
        traits.norms == "before"
        and traits.qk_norm != "all heads"
        and not traits.zero_centered_norms
        and architecture.window is None
        and architecture.residual_multiplier == 1
        and turned_scale(architecture) == 1
    )


def transformer_engine_is_installed() -> bool:
    return importlib.util.find_spec("transformer_engine") is not None


def angles_of_tokens(table_P: torch.Tensor, spans: PackedSpans) -> torch.Tensor:
    """Look up the angles of RoPE of every token, float [N, 1, d], in megatron-core's table of positions.

    Once for all layers: megatron-core would put them together of the table's beginnings, span by span, in each of them.
    """
    assert spans.positions is not None
    return table_P.index_select(0, spans.positions).squeeze(1)


class RMSNorm(torch.nn.Module):
    """Root mean square norm; under sequence parallel its gradient is a sum over the ranks of one copy."""

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.is_zero_centered = config.layernorm_zero_centered_gamma
        drawn = torch.zeros if self.is_zero_centered else torch.ones
        self.weight = torch.nn.Parameter(drawn(hidden_size, dtype=config.params_dtype))
        # megatron-core looks for this mark when it sums gradients over tensor parallel ranks.
        self.weight.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if self.is_zero_centered:
            # In float32: what is close to 1 loses its last digits in bfloat16.
            weight = 1 + self.weight.float()
            return torch.nn.functional.rms_norm(hidden.float(), weight.shape, weight, self.eps).to(hidden.dtype)
        return torch.nn.functional.rms_norm(hidden, self.weight.shape, self.weight, self.eps)


class HeadsNorm(torch.nn.Module):
    """Root mean square norm over all heads at once, of which each tensor parallel rank holds some.

    heads: of the whole model. hidden_size: of one head, as megatron-core builds norms of queries and keys.
    """

    def __init__(self, *, heads: int, config: TransformerConfig, hidden_size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps, self.width = eps, heads * hidden_size
        here = self.width // parallel_state.get_tensor_model_parallel_world_size()
        self.weight = torch.nn.Parameter(torch.ones(here, dtype=config.params_dtype))
        set_tensor_model_parallel_attributes(self.weight, is_parallel=True, dim=0, stride=1)

    def forward(self, parts_N1hd: torch.Tensor) -> torch.Tensor:
        heads = parts_N1hd.flatten(2).float()
        squares = heads.square().sum(dim=-1, keepdim=True)
        # Summed over the ranks; and so is the gradient, for each rank's part was divided by the sum of all.
        squares = copy_to_tensor_model_parallel_region(reduce_from_tensor_model_parallel_region(squares))
        normed = heads * torch.rsqrt(squares / self.width + self.eps) * self.weight.float()
        return normed.to(parts_N1hd.dtype).view_as(parts_N1hd)

    def sharded_state_dict(
        self, prefix: str = "", sharded_offsets: tuple[Any, ...] = (), metadata: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Shard the weight along its only dimension, through the method megatron-core calls."""
        held = self.state_dict(prefix="", keep_vars=True)
        sharded: dict[str, Any] = make_sharded_tensors_for_checkpoint(held, prefix, {"weight": 0}, sharded_offsets)
        return sharded


class Layer(TransformerLayer):  # type: ignore[misc]
    """megatron-core's layer, with norms after attention and feed-forward, and a multiplier of what both add."""

    def __init__(self, *arguments: Any, norms_after: bool, multiplier: float, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.post_attention_norm, self.post_mlp_norm = None, None
        if norms_after:
            shape = (self.config, self.config.hidden_size, self.config.layernorm_epsilon)
            self.post_attention_norm, self.post_mlp_norm = RMSNorm(*shape), RMSNorm(*shape)
        self.self_attn_bda = partial(_adding, self.post_attention_norm, multiplier)
        self.mlp_bda = partial(_adding, self.post_mlp_norm, multiplier)


class Attention(SelfAttention):  # type: ignore[misc]
    """megatron-core's attention, in layers that have RoPE of their own.

    rope: given the spans of a batch, the angles of their tokens.
    """

    def __init__(self, *arguments: Any, rope: Callable[[PackedSpans], torch.Tensor], **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.rope = rope

    def forward(
        self,
        hidden: torch.Tensor,
        *arguments: Any,
        rotary_pos_emb: torch.Tensor,
        packed_seq_params: PackedSpans,
        **more: Any,
    ) -> Any:
        rope = self.rope(packed_seq_params)
        return super().forward(hidden, *arguments, rotary_pos_emb=rope, packed_seq_params=packed_seq_params, **more)


def _adding(
    norm: RMSNorm | None, multiplier: float, training: bool, fused: bool
) -> Callable[[tuple[torch.Tensor, None], torch.Tensor, float], torch.Tensor]:
    """Build the function megatron-core calls to add to the residual; it has neither bias nor dropout."""

    def add(added_with_bias: tuple[torch.Tensor, None], residual: torch.Tensor, dropout: float) -> torch.Tensor:
        added, _ = added_with_bias
        return residual + (added if norm is None else norm(added)) * multiplier

    return add


class _WindowRope(RotaryEmbedding):  # type: ignore[misc]
    """RoPE of layers with a window."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__(
            kv_channels=architecture.head_dim,
            rotary_percent=1.0,
            rotary_base=architecture.window_rope_base,
            use_cpu_initialization=True,
        )


def _window_angles(rope: _WindowRope, spans: PackedSpans) -> torch.Tensor:
    return angles_of_tokens(rope(spans.max_seqlen_q, packed_seq=True), spans)


def _plain(
    architecture: Architecture, n: int, rope: Callable[[PackedSpans], torch.Tensor] | None, *, varlen: bool
) -> ModuleSpec:
    """Specify layer n with the window, the RoPE and the norms that are its own."""
    traits, is_windowed = architecture.traits, n in architecture.windowed_layers
    has_own_rope = is_windowed and rope is not None
    core = partial(
        SegmentAttention,
        varlen=varlen,
        window=architecture.window if is_windowed else None,
        turned_scale=1.0 if has_own_rope or n in architecture.unplaced_layers else turned_scale(architecture),
    )
    norms: dict[str, Any] = {
        "nothing": {},
        "each head": {"q_layernorm": RMSNorm, "k_layernorm": RMSNorm},
        "all heads": {
            "q_layernorm": ModuleSpec(module=HeadsNorm, params={"heads": architecture.heads}),
            "k_layernorm": ModuleSpec(module=HeadsNorm, params={"heads": architecture.kv_heads}),
        },
    }[traits.qk_norm]
    attention = ModuleSpec(
        module=Attention if has_own_rope else SelfAttention,
        params={"attn_mask_type": AttnMaskType.causal, **({"rope": rope} if has_own_rope else {})},
        submodules=SelfAttentionSubmodules(
            linear_qkv=ColumnParallelLinear, core_attention=core, linear_proj=RowParallelLinear, **norms
        ),
    )
    mlp = ModuleSpec(
        module=MLP, submodules=MLPSubmodules(linear_fc1=ColumnParallelLinear, linear_fc2=RowParallelLinear)
    )
    before = IdentityOp if traits.norms == "after" else RMSNorm
    is_own = traits.norms != "before" or architecture.residual_multiplier != 1
    own = {"norms_after": traits.norms != "before", "multiplier": architecture.residual_multiplier}
    return ModuleSpec(
        module=Layer if is_own else TransformerLayer,
        params=own if is_own else {},
        submodules=TransformerLayerSubmodules(
            input_layernorm=before,
            self_attention=attention,
            self_attn_bda=get_bias_dropout_add,
            pre_mlp_layernorm=before,
            mlp=mlp,
            mlp_bda=get_bias_dropout_add,
            # TransformerEngine has each norm inside the layer that follows it.
            sharded_state_dict_keys_map={
                "input_layernorm.": "self_attention.linear_qkv.layer_norm_",
                "pre_mlp_layernorm.": "mlp.linear_fc1.layer_norm_",
            },
        ),
    )


def _fused(architecture: Architecture) -> tuple[ModuleSpec, type]:
    from megatron.core.extensions.transformer_engine import TENorm
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_with_transformer_engine_spec

    # The switch of the configuration alone builds no such norms.
    return get_gpt_layer_with_transformer_engine_spec(qk_layernorm=architecture.traits.qk_norm == "each head"), TENorm
