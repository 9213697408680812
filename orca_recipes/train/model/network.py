"""The model: megatron-core's GPTModel in the shape of an architecture, and the loss of packed rows.

All rows of a micro-batch are laid end to end and run as one packed sequence whose segments are the examples, so
positions and attention restart at every example whatever the row it lies in.

B = rows, T = tokens of a row, N = B * T, V = padded vocabulary, v = its part on this rank.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel
from megatron.core.tensor_parallel import (
    ColumnParallelLinear,
    RowParallelLinear,
    VocabParallelEmbedding,
    gather_from_tensor_model_parallel_region,
    set_tensor_model_parallel_attributes,
    vocab_parallel_cross_entropy,
)
from megatron.core.transformer.transformer_config import TransformerConfig
from torch.utils.checkpoint import checkpoint

from orca_recipes.train.model.architecture import Architecture
from orca_recipes.train.model.layer_parts import (
    PackedSpans,
    layer_specs,
    transformer_engine_computes,
    transformer_engine_is_installed,
)
from orca_recipes.train.model.rope import stretched
from orca_recipes.train.processes.parallel_layout import Layout

_ACTIVATIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": torch.nn.functional.silu,
    "gelu_pytorch_tanh": partial(torch.nn.functional.gelu, approximate="tanh"),
}

TABLES = ("embedding.word_embeddings.weight", "output_layer.weight")
"""The names of the input's and the output's embeddings."""


class Rows(Protocol):
    """What the model needs of a batch: int64 [B, T] tokens and labels, and int32 [spans + 1] bounds of each row.

    Bounds are on the host, whatever device the tensors are on.
    """

    @property
    def tokens_BT(self) -> torch.Tensor: ...
    @property
    def labels_BT(self) -> torch.Tensor: ...
    @property
    def cu_seqlens(self) -> Sequence[np.ndarray]: ...


class Network(GPTModel):  # type: ignore[misc]
    """GPTModel that knows its architecture."""

    def __init__(self, architecture: Architecture, config: TransformerConfig, *, fused: bool) -> None:
        super().__init__(
            config=config,
            transformer_layer_spec=layer_specs(architecture, fused=fused),
            vocab_size=architecture.padded_vocabulary_size,
            max_sequence_length=architecture.max_positions,
            position_embedding_type="rope",
            rotary_percent=architecture.rotary_share,
            rotary_base=architecture.rope_base,
            share_embeddings_and_output_weights=architecture.tied,
        )
        self.architecture = architecture
        self.rotary_pos_emb.inv_freq = stretched(self.rotary_pos_emb.inv_freq, architecture)
        if architecture.embedding_scale != 1:
            self.embedding.register_forward_hook(partial(_multiplied, architecture.embedding_scale))
        if architecture.logits_divisor != 1:
            self.output_layer.register_forward_hook(partial(_divided, architecture.logits_divisor))


def build_model(
    architecture: Architecture,
    layout: Layout,
    *,
    precision: torch.dtype | None = None,
    recompute: bool = False,
    initialize: bool = True,
    plain: bool = False,
) -> Network:
    """The part of a model that this rank holds, on its device, with weights drawn from the layout's seed.

    Call it while the layout runs. The same seed gives the same full weights at any tensor parallel size.

    Args:
        precision: of the weights; float32 on CPU and bfloat16 on GPU where none is named.
        recompute: keep only what enters each layer, and run the layer again for its gradient.
        initialize: False where weights are loaded next. plain: no TransformerEngine although it is installed.
    """
    dtype = precision or (torch.float32 if layout.device == "cpu" else torch.bfloat16)
    fused = layout.device == "cuda" and transformer_engine_is_installed() and not plain
    fused = fused and transformer_engine_computes(architecture)
    config = _config(architecture, layout, dtype, initialize=initialize, fused=fused)
    network = Network(architecture, config, fused=fused)
    network.to(device=layout.device if layout.device == "cpu" else torch.device("cuda", torch.cuda.current_device()))
    if initialize:
        _clear_padding(network)
    else:
        _mark_parts(network)
    if recompute:
        for layer in network.decoder.layers:
            # Nothing is drawn inside a layer (dropout is 0), so no generator's state need be kept.
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)
    return network


def hollow_model(architecture: Architecture, precision: torch.dtype) -> Network:
    """A model that knows all about its weights but what they are: none takes memory. Call it on one rank."""
    with torch.device("meta"):
        config = _config(architecture, Layout(), precision, initialize=False, fused=False)
        return Network(architecture, config, fused=False)


def losses(model: torch.nn.Module, batch: Rows) -> torch.Tensor:
    """Cross entropy of every label: float32 [B, T], also at places without loss, which the caller masks with `where`.

    Args:
        model: a Network, or what wraps one.
    """
    rows, row_tokens = batch.labels_BT.shape
    logits_N1v = _logits(model, batch)
    loss_N1: torch.Tensor = vocab_parallel_cross_entropy(logits_N1v, batch.labels_BT.reshape(-1, 1))
    return loss_N1.view(rows, row_tokens)


def logits(model: torch.nn.Module, batch: Rows) -> torch.Tensor:
    """float [B, T, V] on every rank, minus infinity beyond the vocabulary."""
    rows, row_tokens = batch.tokens_BT.shape
    full = gather_from_tensor_model_parallel_region(_logits(model, batch))
    return full.view(rows, row_tokens, -1)  # type: ignore[no-any-return]


def network_of(model: torch.nn.Module) -> Network:
    """The Network inside its wrappers."""
    while not isinstance(model, Network):
        model = model.module  # type: ignore[assignment]
    return model


def embedding_tables(network: Network) -> list[torch.nn.Parameter]:
    """This rank's part of the input's and the output's embeddings, one where they are tied: float [v, hidden]."""
    tables = [network.embedding.word_embeddings.weight]
    return tables if network.architecture.tied else [*tables, network.output_layer.weight]


def rows_here(tokens: int, width: int) -> int:
    """How many of this rank's `width` rows of a table belong to the first so many tokens."""
    first: int = width * parallel_state.get_tensor_model_parallel_rank()
    return min(max(tokens - first, 0), width)


def _logits(model: torch.nn.Module, batch: Rows) -> torch.Tensor:
    """float [N, 1, v], minus infinity beyond the vocabulary."""
    tokens_1N = batch.tokens_BT.reshape(1, -1)
    found_1Nv = model(
        input_ids=tokens_1N,
        position_ids=None,
        attention_mask=None,
        packed_seq_params=_packed(batch.cu_seqlens, tokens_1N.device),
    )
    logits_N1v: torch.Tensor = found_1Nv.transpose(0, 1)
    first_pad = rows_here(network_of(model).architecture.vocabulary_size, logits_N1v.shape[-1])
    if first_pad < logits_N1v.shape[-1]:
        logits_N1v[..., first_pad:] = -math.inf
    return logits_N1v


def _packed(cu_seqlens: Sequence[np.ndarray], device: torch.device) -> PackedSpans:
    """Bounds of all rows laid end to end."""
    ends, so_far = [np.zeros(1, dtype=np.int32)], 0
    for bounds in cu_seqlens:
        ends.append(bounds[1:] + np.int32(so_far))
        so_far = int(ends[-1][-1])
    joined = np.concatenate(ends).astype(np.int32)
    lengths = np.diff(joined).tolist()
    # The exact longest span: megatron-core reads a bound equal to N as a table of positions that never restart.
    longest = max(lengths)
    on_device = torch.from_numpy(joined).to(device)
    return PackedSpans(
        qkv_format="thd",
        cu_seqlens_q=on_device,
        cu_seqlens_kv=on_device,
        max_seqlen_q=longest,
        max_seqlen_kv=longest,
        lengths=lengths,
    )


def _mark_parts(network: Network) -> None:
    """Mark weights of which each rank holds a part; megatron-core does it only where it draws them.

    Without the mark every part but the first is taken for a copy, and left out of the gradient's norm.
    """
    for module in network.modules():
        if isinstance(module, ColumnParallelLinear | RowParallelLinear | VocabParallelEmbedding):
            weight = getattr(module, "weight", None)
            if weight is not None and not hasattr(weight, "tensor_model_parallel"):
                dimension = 1 if isinstance(module, RowParallelLinear) else 0
                set_tensor_model_parallel_attributes(weight, is_parallel=True, dim=dimension, stride=1)


@torch.no_grad()
def _clear_padding(network: Network) -> None:
    """Rows that only pad a table are zero, so that equal models have equal checkpoints."""
    for table in embedding_tables(network):
        table[rows_here(network.architecture.vocabulary_size, len(table)) :] = 0


def _multiplied(scale: float, module: torch.nn.Module, asked: object, embedded: torch.Tensor) -> torch.Tensor:
    # Rounded to the weights' precision first, as transformers does it.
    return embedded * torch.tensor(scale, dtype=embedded.dtype, device=embedded.device)


def _divided(
    divisor: float, module: torch.nn.Module, asked: object, found: tuple[torch.Tensor, None]
) -> tuple[torch.Tensor, None]:
    return found[0] / divisor, found[1]


def _config(
    architecture: Architecture, layout: Layout, dtype: torch.dtype, *, initialize: bool, fused: bool
) -> TransformerConfig:
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
        params_dtype=dtype,
        bf16=dtype == torch.bfloat16,
        # Drawn on the CPU at full size and cut: so the weights do not depend on the layout.
        use_cpu_initialization=True,
        perform_initialization=initialize,
        calculate_per_token_loss=True,
        # Fused kernels are TransformerEngine's or apex's.
        apply_rope_fusion=fused,
        bias_activation_fusion=False,
        bias_dropout_fusion=False,
        masked_softmax_fusion=False,
        gradient_accumulation_fusion=False,
        persist_layer_norm=fused,
    )
