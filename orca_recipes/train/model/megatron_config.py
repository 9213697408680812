"""Settings of megatron-core's layers for an architecture: what a switch of theirs means, where its name misleads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from megatron.core.transformer.transformer_config import TransformerConfig

from orca_recipes.train.model import fusion
from orca_recipes.train.model.architecture import Architecture
from orca_recipes.train.processes.parallel_layout import Layout

_ACTIVATIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": torch.nn.functional.silu,
    "gelu_pytorch_tanh": partial(torch.nn.functional.gelu, approximate="tanh"),
}


def megatron_config(
    architecture: Architecture, layout: Layout, dtype: torch.dtype, *, initialize: bool, fused: bool
) -> TransformerConfig:
    """Return megatron-core's settings of an architecture in a layout.

    Args:
        dtype: of the weights. initialize: whether weights are drawn. fused: whether TransformerEngine computes.
    """
    shape: dict[str, Any] = {
        "num_layers": architecture.layers,
        "hidden_size": architecture.hidden,
        "ffn_hidden_size": architecture.mlp_hidden,
        "num_attention_heads": architecture.heads,
        "num_query_groups": architecture.kv_heads,
        "kv_channels": architecture.head_dim,
        "layernorm_epsilon": architecture.norm_epsilon,
        "init_method_std": architecture.initializer_range,
    }
    traits = architecture.traits
    family: dict[str, Any] = {
        "normalization": "RMSNorm",
        "gated_linear_unit": True,
        "activation_func": _ACTIVATIONS[traits.activation],
        "add_bias_linear": False,
        "add_qkv_bias": traits.qkv_bias,
        # Without it, gradients of norms that every rank holds whole are not summed over tensor parallel ranks.
        "qk_layernorm": traits.qk_norm == "each head",
        "layernorm_zero_centered_gamma": traits.zero_centered_norms,
        "softmax_scale": architecture.attention_scale,
        # 1 leaves RoPE out: the other way round than transformers' no_rope_layers.
        "no_rope_freq": [int(n in architecture.unplaced_layers) for n in range(architecture.layers)],
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
    }
    return TransformerConfig(
        **shape,
        **family,
        tensor_model_parallel_size=layout.tensor_parallel,
        sequence_parallel=layout.sequence_parallel,
        pipeline_model_parallel_size=layout.pipeline_parallel,
        pipeline_dtype=dtype,
        params_dtype=dtype,
        bf16=dtype == torch.bfloat16,
        # Drawn on the CPU at full size and cut: so the weights do not depend on the layout.
        use_cpu_initialization=True,
        perform_initialization=initialize,
        # Gradients stay sums: the optimizer divides once by the global count.
        calculate_per_token_loss=True,
        # Its gradient is made of the layer's input again, so that less is kept.
        bias_activation_fusion=layout.device == "cuda" and traits.activation == "silu" and fusion.can_be_compiled(),
        # Other fused kernels are TransformerEngine's or apex's.
        apply_rope_fusion=fused,
        bias_dropout_fusion=False,
        masked_softmax_fusion=False,
        gradient_accumulation_fusion=False,
        persist_layer_norm=fused,
    )
