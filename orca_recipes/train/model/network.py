"""The model: megatron-core's GPTModel in the shape of an architecture, and the loss of packed rows.

All rows of a micro-batch are laid end to end and run as one packed sequence whose segments are the examples, so
positions and attention restart at every example whatever the row it lies in.

B = rows, T = tokens of a row, N = B * T, V = padded vocabulary, v = its part on this rank.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Protocol

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
)
from megatron.core.transformer.transformer_config import TransformerConfig

from orca_recipes.train.megatron_versions import norms_of_its_own, standing_in_for_cuda_by_name
from orca_recipes.train.model import recomputation
from orca_recipes.train.model.architecture import Architecture
from orca_recipes.train.model.cross_entropy import cross_entropy
from orca_recipes.train.model.layer_parts import (
    angles_of_tokens,
    layer_specs,
    transformer_engine_computes,
    transformer_engine_is_installed,
)
from orca_recipes.train.model.megatron_config import megatron_config
from orca_recipes.train.model.rope import stretched
from orca_recipes.train.model.segment_attention import Cache, PackedSpans, varlen_computes
from orca_recipes.train.processes.parallel_layout import Layout
from orca_recipes.train.transfer import sent

TABLES = ("embedding.word_embeddings.weight", "output_layer.weight")
"""The names of the input's and the output's embeddings."""

_LAYER = re.compile(r"^(decoder\.layers\.)(\d+)\.")


class Rows(Protocol):
    """A batch as the model needs it: int64 [B, T] tokens and labels, and int32 [spans + 1] bounds of each row.

    Bounds are on the host, whatever device the tensors are on. wanted: int64 [n], the places, counted through all rows,
    whose losses are asked for; None for all.
    """

    @property
    def tokens_BT(self) -> torch.Tensor: ...
    @property
    def labels_BT(self) -> torch.Tensor: ...
    @property
    def cu_seqlens(self) -> Sequence[np.ndarray]: ...
    @property
    def wanted(self) -> torch.Tensor | None: ...


class Network(GPTModel):  # type: ignore[misc]
    """GPTModel that knows its architecture, or the stage of it that this rank holds.

    first_layer: the first of its layers, counted through the model. places: int64 [n], at which it gives logits; None
    for all. spans: of the tokens that are handed in. is_fused: its layers are TransformerEngine's.
    """

    def __init__(
        self, architecture: Architecture, config: TransformerConfig, *, fused: bool, varlen: bool = False
    ) -> None:
        stages = config.pipeline_model_parallel_size
        stage = parallel_state.get_pipeline_model_parallel_rank() if stages > 1 else 0
        here = architecture.layers // stages
        with norms_of_its_own(config, has_some=architecture.traits.qk_norm != "nothing"):
            super().__init__(
                config=config,
                transformer_layer_spec=layer_specs(
                    architecture, range(stage * here, (stage + 1) * here), fused=fused, varlen=varlen
                ),
                pre_process=stage == 0,
                post_process=stage == stages - 1,
                vocab_size=architecture.padded_vocabulary_size,
                max_sequence_length=architecture.max_positions,
                position_embedding_type="rope",
                rotary_percent=architecture.rotary_share,
                rotary_base=architecture.rope_base,
                share_embeddings_and_output_weights=architecture.tied,
            )
        self.architecture, self.first_layer, self.is_fused = architecture, stage * here, fused
        self.rotary_pos_emb.inv_freq = stretched(self.rotary_pos_emb.inv_freq, architecture)
        self.places: torch.Tensor | None = None
        self.spans: PackedSpans | None = None
        self.rotary_pos_emb.register_forward_hook(self._angles)
        if self.post_process:
            self.output_layer.register_forward_pre_hook(self._chosen)
        if architecture.embedding_scale != 1 and self.pre_process:
            self.embedding.register_forward_hook(partial(_multiplied, architecture.embedding_scale))
        if architecture.logits_divisor != 1 and self.post_process:
            self.output_layer.register_forward_hook(partial(_divided, architecture.logits_divisor))

    def _chosen(self, module: object, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """Select the input of the output layer at the places asked for: float [n, 1, hidden]."""
        return given if self.places is None else (given[0].index_select(0, self.places), *given[1:])

    def _angles(self, module: object, asked: object, table: torch.Tensor) -> torch.Tensor:
        """Return angles of RoPE for each token; TransformerEngine takes a table of positions."""
        return table if self.is_fused or self.spans is None else angles_of_tokens(table, self.spans)

    def whole_names(self) -> dict[str, str]:
        """Map the names of this stage's weights to their names in the whole model."""
        return {name: self._whole_name(name) for name, _ in self.named_parameters()}

    def _whole_name(self, name: str) -> str:
        if name == TABLES[1] and self.architecture.tied:
            # The last stage's copy of the first one's.
            return TABLES[0]
        return _LAYER.sub(lambda found: f"{found[1]}{int(found[2]) + self.first_layer}.", name)


def build_model(
    architecture: Architecture,
    layout: Layout,
    *,
    precision: torch.dtype | None = None,
    recompute: recomputation.Recomputed = "none",
    initialize: bool = True,
    plain: bool = False,
) -> Network:
    """Build this rank's part of a model on its device, with weights drawn from the layout's seed.

    Call it while the layout runs. The same seed gives the same full weights at any layout; stages of a pipeline draw
    the whole model for that, and keep their part.

    Args:
        precision: of the weights; float32 on CPU and bfloat16 on GPU where none is named.
        recompute: parts of each layer, or whole layers, of which only what enters them is kept.
        initialize: False where weights are loaded next. plain: no TransformerEngine although it is installed.
    """
    dtype = precision or (torch.float32 if layout.device == "cpu" else torch.bfloat16)
    fused = layout.device == "cuda" and transformer_engine_is_installed() and not plain
    fused = fused and transformer_engine_computes(architecture)
    varlen = layout.device == "cuda" and not fused and varlen_computes(architecture.head_dim, dtype)
    is_cut = layout.pipeline_parallel > 1
    config = megatron_config(architecture, layout, dtype, initialize=initialize and not is_cut, fused=fused)
    with standing_in_for_cuda_by_name() if layout.device == "cpu" else nullcontext():
        network = Network(architecture, config, fused=fused, varlen=varlen)
    if is_cut and initialize:
        _take_drawn(network, replace(layout, pipeline_parallel=1), dtype, fused=fused)
    network.to(device=layout.device if layout.device == "cpu" else torch.device("cuda", torch.cuda.current_device()))
    if initialize:
        _clear_padding(network)
    if is_cut or not initialize:
        _mark_parts(network)
    recomputation.recompute(network.decoder.layers, recompute)
    return network


def hollow_model(architecture: Architecture, precision: torch.dtype) -> Network:
    """Build a model with shapes and layouts of all weights but no memory for their values. Call it on one rank."""
    with torch.device("meta"):
        config = megatron_config(architecture, Layout(), precision, initialize=False, fused=False)
        return Network(architecture, config, fused=False)


def losses(model: torch.nn.Module, batch: Rows) -> torch.Tensor:
    """Cross entropy of every label: float32 [B, T]; 0 where the batch does not ask for it.

    Else also of places without loss, which the caller masks with `where`.

    Args:
        model: a Network, or what wraps one.
    """
    return losses_of(model, stage_output(model, batch), batch)


def losses_of(model: torch.nn.Module, found: torch.Tensor, batch: Rows) -> torch.Tensor:
    """Compute the losses from the last stage's output for a batch, as `losses`."""
    labels_N, places_n = batch.labels_BT.reshape(-1), _places(model, batch)
    logits_nv = _masked(model, found)[:, 0]
    if places_n is None:
        return cross_entropy(logits_nv, labels_N).view_as(batch.labels_BT)
    loss_n = cross_entropy(logits_nv, labels_N[places_n])
    return loss_n.new_zeros(len(labels_N)).index_copy(0, places_n, loss_n).view_as(batch.labels_BT)


def logits(model: torch.nn.Module, batch: Rows) -> torch.Tensor:
    """Return float [B, T, V] on every rank, minus infinity beyond the vocabulary."""
    rows, row_tokens = batch.tokens_BT.shape
    assert batch.wanted is None, "logits are of all places"
    full = gather_from_tensor_model_parallel_region(_masked(model, stage_output(model, batch)))
    return full.view(rows, row_tokens, -1)  # type: ignore[no-any-return]


def next_logits(network: Network, tokens: Sequence[int], cache: Cache) -> torch.Tensor:
    """Return float [V] on every rank: logits behind a text, of which some tokens are handed in and earlier ones are
    kept.

    Args:
        network: of one stage, without TransformerEngine's layers and sequence parallel.
        tokens: at first some, then one by one.
        cache: of the text; it keeps these tokens too.
    """
    device = next(network.parameters()).device
    spans = _packed(network, [np.array([0, len(tokens)], dtype=np.int32)], device, before=cache.tokens)
    spans.cache = cache
    network.places = torch.tensor([len(tokens) - 1], device=device)
    network.spans = spans
    ids_1N = torch.tensor([list(tokens)], device=device)
    found = network(input_ids=ids_1N, position_ids=None, attention_mask=None, packed_seq_params=spans)
    cache.tokens += len(tokens)
    full: torch.Tensor = gather_from_tensor_model_parallel_region(_masked(network, found))
    return full[-1, 0]


def network_of(model: torch.nn.Module) -> Network:
    """Return the Network inside its wrappers."""
    while not isinstance(model, Network):
        model = model.module  # type: ignore[assignment]
    return model


def embedding_tables(network: Network) -> list[torch.nn.Parameter]:
    """Return this rank's part of the input's and output's embeddings, one where they are tied: float [v, hidden]."""
    tables = [network.embedding.word_embeddings.weight] if network.pre_process else []
    has_output = network.post_process and not (network.architecture.tied and network.pre_process)
    return [*tables, network.output_layer.weight] if has_output else tables


def rows_here(tokens: int, width: int) -> int:
    """Count this rank's rows, `width` of them, that belong to the first `tokens` tokens of a table."""
    first: int = width * parallel_state.get_tensor_model_parallel_rank()
    return min(max(tokens - first, 0), width)


def stage_output(model: torch.nn.Module, batch: Rows) -> torch.Tensor:
    """Run a batch through this stage: float [1, N, v] logits if it is the last, else the input of the next one.

    Where the batch asks for some places alone, the logits are of these: most of a row's places carry no loss, and the
    output layer is a large part of a small model.
    """
    network = network_of(model)
    tokens_1N = batch.tokens_BT.reshape(1, -1)
    network.places, network.spans = _places(model, batch), _packed(network, batch.cu_seqlens, tokens_1N.device)
    found: torch.Tensor = model(
        input_ids=tokens_1N,
        # GPTModel ignores position ids; the bounds of packed spans restart positions.
        position_ids=None,
        attention_mask=None,
        packed_seq_params=network.spans,
    )
    return found


def _places(model: torch.nn.Module, batch: Rows) -> torch.Tensor | None:
    """Return the places with logits; all under sequence parallel, where each rank has a part of the row until then."""
    return None if network_of(model).config.sequence_parallel else batch.wanted


def _masked(model: torch.nn.Module, found_1Nv: torch.Tensor) -> torch.Tensor:
    """Return logits, float [N, 1, v], minus infinity beyond the vocabulary."""
    logits_N1v = found_1Nv.transpose(0, 1)
    first_pad = rows_here(network_of(model).architecture.vocabulary_size, logits_N1v.shape[-1])
    if first_pad < logits_N1v.shape[-1]:
        # Pads of the vocabulary take no share of the softmax, and are never predicted.
        logits_N1v[..., first_pad:] = -math.inf
    return logits_N1v


def _packed(
    network: Network, cu_seqlens: Sequence[np.ndarray], device: torch.device, *, before: int = 0
) -> PackedSpans:
    """Return bounds of all rows laid end to end.

    Args:
        before: how many tokens of a text, which is one span, came before these.
    """
    ends, so_far = [np.zeros(1, dtype=np.int32)], 0
    for bounds in cu_seqlens:
        ends.append(bounds[1:] + np.int32(so_far))
        so_far = int(ends[-1][-1])
    joined = np.concatenate(ends).astype(np.int32)
    lengths = np.diff(joined)
    positions = np.arange(joined[-1], dtype=np.int64) - np.repeat(joined[:-1], lengths) + before
    # The exact longest span: megatron-core reads a bound equal to N as a table of positions that never restart.
    longest = before + int(lengths.max())
    on_device = sent(torch.from_numpy(joined), device)
    return PackedSpans(
        qkv_format="thd",
        cu_seqlens_q=on_device if network.is_fused else None,
        cu_seqlens_kv=on_device if network.is_fused else None,
        max_seqlen_q=longest,
        max_seqlen_kv=longest,
        bounds=on_device,
        lengths=lengths.tolist(),
        positions=None if network.is_fused else sent(torch.from_numpy(positions), device),
    )


@torch.no_grad()
def _take_drawn(network: Network, layout: Layout, dtype: torch.dtype, *, fused: bool) -> None:
    """Take the weights of a stage as the whole model would draw them."""
    architecture = network.architecture
    whole = Network(
        architecture, megatron_config(architecture, layout, dtype, initialize=True, fused=fused), fused=fused
    )
    drawn = dict(whole.named_parameters())
    names = network.whole_names()
    for name, weight in network.named_parameters():
        weight.copy_(drawn[names[name]])


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
    """Zero the rows that only pad a table, to make checkpoints of equal models equal."""
    for table in embedding_tables(network):
        table[rows_here(network.architecture.vocabulary_size, len(table)) :] = 0


def _multiplied(scale: float, module: torch.nn.Module, asked: object, embedded: torch.Tensor) -> torch.Tensor:
    # Rounded to the weights' precision first, as transformers does it; on the host, for a device would wait for it.
    return embedded * torch.tensor(scale, dtype=embedded.dtype, device="cpu").item()


def _divided(
    divisor: float, module: torch.nn.Module, asked: object, found: tuple[torch.Tensor, None]
) -> tuple[torch.Tensor, None]:
    return found[0] / divisor, found[1]
