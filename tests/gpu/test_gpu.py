"""What only a GPU can show: NCCL, bfloat16, fused layers, the DistributedOptimizer, memory."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from orca_recipes.train.checkpoints.checkpoint import resume, save_checkpoint
from orca_recipes.train.checkpoints.description import Checkpoint
from orca_recipes.train.model import fusion
from orca_recipes.train.model.layer_parts import transformer_engine_is_installed
from orca_recipes.train.model.network import Network, build_model, losses
from orca_recipes.train.model.recomputation import Recomputed
from orca_recipes.train.model.segment_attention import PackedSpans, SegmentAttention, varlen_computes
from orca_recipes.train.optimizer import AdamW, Optimizer, Step, build_optimizer
from orca_recipes.train.processes.parallel_layout import Layout, Place
from tests.train.rows import Packed, packed, small, stepped

ONE_GPU = Layout(device="cuda")
WIDE = {"hidden": 256, "mlp_hidden": 512, "heads": 4, "kv_heads": 2, "head_dim": 64}
"""Fused attention takes heads of usual width only."""

BATCHES = [packed([70, 200, 50], [320], vocabulary=500, seed=step).to("cpu") for step in range(2)]


def on_gpu(batch: Packed) -> Packed:
    return batch.to("cuda")


def take(model: Network, optimizer: Optimizer, batch: Packed) -> tuple[float, Step]:
    loss_BT = losses(model, batch)
    total = torch.where(batch.loss_mask_BT > 0, loss_BT, 0.0).sum()
    total.backward()
    targets = int(batch.loss_mask_BT.sum())
    return float(total) / targets, stepped(optimizer, learning_rate=1e-3, terms=targets)


def gradient(model: Network, batch: Packed) -> torch.Tensor:
    """Of the embedding: float32, flat; all layers stand between it and the loss."""
    table = model.embedding.word_embeddings.weight
    table.grad = None
    torch.where(batch.loss_mask_BT > 0, losses(model, batch), 0.0).sum().backward()
    assert table.grad is not None
    return table.grad.float().flatten()


def test_nccl_starts_on_one_gpu(gpu: Place):
    ones = torch.ones(4, device=gpu.device)
    torch.distributed.all_reduce(ones)
    assert torch.distributed.get_backend() == "nccl"
    assert ones.tolist() == [1.0] * 4


def test_the_plain_layers_keep_the_examples_of_a_row_apart(gpu: Place):
    model = build_model(small(**WIDE), ONE_GPU, precision=torch.float32, plain=True)
    found = losses(model, on_gpu(BATCHES[0])).detach().cpu()
    # The second example by itself, in a row of its own.
    alone = Packed(
        BATCHES[0].tokens_BT[:1, 70:270].cuda(),
        BATCHES[0].labels_BT[:1, 70:270].cuda(),
        BATCHES[0].loss_mask_BT[:1, 70:270].cuda(),
        [BATCHES[0].cu_seqlens[0][1:3] - 70],
    )
    assert torch.allclose(losses(model, alone).detach().cpu()[0], found[0, 70:270], atol=1e-3)
    mixed = losses(model, on_gpu(BATCHES[0].without_isolation())).detach().cpu()
    assert (mixed - found).abs().max() > 0.01


@pytest.mark.parametrize("window", [None, 1, 50])
def test_one_call_attends_as_a_call_for_each_span(gpu: Place, window: int | None):
    lengths = [70, 1, 200, 49]
    bounds = torch.tensor([0, *lengths], device=gpu.device).cumsum(0).to(torch.int32)
    spans = PackedSpans(bounds=bounds, lengths=lengths, max_seqlen_q=200, max_seqlen_kv=200)
    parts = [torch.randn(320, heads, 64, device=gpu.device, dtype=torch.bfloat16) for heads in (4, 2, 2)]
    config = build_model(small(**WIDE), ONE_GPU, plain=True).config
    assert varlen_computes(64, torch.bfloat16)
    found = []
    for varlen in (False, True):
        inputs = [part.clone().requires_grad_() for part in parts]
        attended = SegmentAttention(config, window=window, varlen=varlen)(*inputs, None, packed_seq_params=spans)
        found.append([attended, *torch.autograd.grad(attended.float().square().sum(), inputs)])
    for each, together in zip(*found, strict=True):
        assert torch.allclose(each, together, atol=0.05, rtol=0.05)


def test_a_compiled_swiglu_has_the_gradients_of_a_plain_one(gpu: Place, monkeypatch: pytest.MonkeyPatch):
    if not fusion.can_be_compiled():
        pytest.skip("nothing can be compiled on this machine")
    found = []
    for is_there in (True, False):
        monkeypatch.setattr(fusion, "can_be_compiled", lambda is_there=is_there: is_there)
        torch.manual_seed(3)
        model = build_model(small(**WIDE), ONE_GPU, plain=True)
        assert model.config.bias_activation_fusion == is_there
        found.append(gradient(model, on_gpu(BATCHES[0])))
    assert torch.cosine_similarity(*found, dim=0) > 0.99


@pytest.mark.skipif(not transformer_engine_is_installed(), reason="TransformerEngine is not installed")
def test_fused_layers_agree_with_the_plain_ones_on_packed_rows(gpu: Place, tmp_path: Path):
    plain = build_model(small(**WIDE), ONE_GPU, plain=True)
    save_checkpoint(tmp_path, Checkpoint(small(**WIDE), manifest_digest="m"), plain, keep=1)
    fused = build_model(small(**WIDE), ONE_GPU)
    from orca_recipes.train.checkpoints.checkpoint import load_weights

    load_weights(tmp_path / "step-00000000", fused)
    for batch in map(on_gpu, BATCHES):
        ours, theirs = losses(plain, batch).detach(), losses(fused, batch).detach()
        assert (ours - theirs).abs().max() < 0.1
        assert (ours.mean() - theirs.mean()).abs() < 0.01
        assert torch.cosine_similarity(gradient(plain, batch), gradient(fused, batch), dim=0) > 0.99
    mixed = losses(fused, on_gpu(BATCHES[0].without_isolation())).detach()
    assert (mixed - losses(fused, on_gpu(BATCHES[0])).detach()).abs().max() > 0.1


@pytest.mark.skipif(not transformer_engine_is_installed(), reason="TransformerEngine is not installed")
def test_fused_layers_keep_the_examples_of_a_row_apart(gpu: Place):
    fused = build_model(small(**WIDE), ONE_GPU)
    batch = on_gpu(BATCHES[0])
    changed = replace(batch, tokens_BT=batch.tokens_BT.clone())
    changed.tokens_BT[:1, :70] = 7
    before, after = losses(fused, batch).detach()[0], losses(fused, changed).detach()[0]
    assert torch.equal(before[70:270], after[70:270])
    assert not torch.equal(before[:70], after[:70])


def test_weights_are_bfloat16_and_their_masters_and_gradients_float32(gpu: Place):
    model = build_model(small(**WIDE), ONE_GPU)
    optimizer = build_optimizer(model, ONE_GPU, AdamW())
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    curve = [take(model, optimizer, on_gpu(BATCHES[step % 2]))[0] for step in range(20)]
    assert {weight.main_grad.dtype for weight in model.parameters()} == {torch.float32}
    assert all(math.isfinite(loss) for loss in curve)
    assert curve[-1] < curve[0] - 0.5


def test_the_distributed_optimizer_steps_as_torchs(gpu: Place):
    model = build_model(small(**WIDE), ONE_GPU, precision=torch.float32)
    mirror = build_model(small(**WIDE), ONE_GPU, precision=torch.float32)
    mirror.load_state_dict(model.state_dict(), strict=False)
    optimizer = build_optimizer(model, ONE_GPU, AdamW(weight_decay=0.0, epsilon=1e-3))
    witness = torch.optim.AdamW(mirror.parameters(), lr=1e-3, betas=(0.9, 0.95), eps=1e-3, weight_decay=0.0)
    for step in range(6):
        batch = on_gpu(BATCHES[step % 2])
        ours, taken = take(model, optimizer, batch)
        theirs = torch.where(batch.loss_mask_BT > 0, losses(mirror, batch), 0.0).sum() / batch.loss_mask_BT.sum()
        theirs.backward()
        norm = torch.nn.utils.clip_grad_norm_(mirror.parameters(), 1.0)
        witness.step()
        witness.zero_grad()
        assert ours == pytest.approx(float(theirs), rel=1e-4)
        assert taken.gradient_norm == pytest.approx(float(norm), rel=1e-3)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_a_run_on_a_gpu_goes_on_as_if_nothing_had_happened(gpu: Place, tmp_path: Path, precision: torch.dtype):
    def made() -> tuple[Network, Optimizer]:
        model = build_model(small(**WIDE), ONE_GPU, precision=precision)
        return model, build_optimizer(model, ONE_GPU, AdamW())

    model, optimizer = made()
    for step in range(3):
        take(model, optimizer, on_gpu(BATCHES[step % 2]))
    save_checkpoint(tmp_path, Checkpoint(small(**WIDE), step=3, manifest_digest="m"), model, optimizer, keep=1)
    undisturbed = [take(model, optimizer, on_gpu(BATCHES[step % 2]))[0] for step in range(3, 6)]
    model, optimizer = made()
    resume(tmp_path / "step-00000003", model, optimizer, manifest_digest="m")
    resumed = [take(model, optimizer, on_gpu(BATCHES[step % 2]))[0] for step in range(3, 6)]
    assert resumed == pytest.approx(undisturbed, rel=1e-3)


def test_running_layers_again_saves_memory_and_a_parameter_costs_what_it_should(gpu: Place):
    shape = small(vocabulary=512, layers=8, **{**WIDE, "hidden": 512, "mlp_hidden": 2048, "heads": 8})
    batch = on_gpu(packed([2048] * 2, [4096], vocabulary=500))

    def peak(recompute: Recomputed) -> int:
        torch.cuda.reset_peak_memory_stats()
        model = build_model(shape, ONE_GPU, recompute=recompute)
        held = torch.cuda.memory_allocated()
        losses(model, batch).sum().backward()
        return torch.cuda.max_memory_allocated() - held

    assert peak("layers") < 0.6 * peak("none")
    assert peak("mlp") < peak("none")

    before = torch.cuda.memory_allocated()
    model = build_model(shape, ONE_GPU)
    optimizer = build_optimizer(model, ONE_GPU, AdamW())
    take(model, optimizer, batch)
    # bfloat16 weight, float32 gradient, master and two moments: 18 bytes a parameter.
    assert 16 < (torch.cuda.memory_allocated() - before) / shape.parameters < 24
