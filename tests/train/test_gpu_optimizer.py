"""The optimizer for GPUs, stepped on a CPU that pretends: it agrees with the one for CPUs."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from orca_recipes.train import optimizer as optimizers
from orca_recipes.train.checkpoints.checkpoint import resume, save_checkpoint
from orca_recipes.train.checkpoints.description import Checkpoint
from orca_recipes.train.model.network import Network, build_model, losses
from orca_recipes.train.optimizer import Optimizer
from orca_recipes.train.processes.parallel_layout import Layout, Place
from tests.train.pretended_gpu import PretendedGpu
from tests.train.rows import small, stepped
from tests.train.test_optimizer import BATCHES, CALM, mean_loss, take

DIGEST = "a" * 64


def steps(
    layout: Layout, place: Place, model: Network, optimizer: Optimizer, first: int, last: int
) -> list[tuple[float, float]]:
    found = []
    for step in range(first, last):
        loss = mean_loss(model, BATCHES[step % 2])
        taken = take(model, optimizer, BATCHES[step % 2][place.data_rank :: layout.data_parallel])
        found.append((loss, taken.gradient_norm))
    return found


@pytest.mark.parametrize(
    "layout",
    [Layout(), Layout(tensor_parallel=2, sequence_parallel=True), Layout(data_parallel=2)],
    ids=str,
)
def test_both_optimizers_take_the_same_steps(run_layout: Callable[..., list[Any]], layout: Layout):
    def both(place: Place) -> list[list[tuple[float, float]]]:
        model = build_model(small(), layout)
        ours = steps(layout, place, model, optimizers._OnCpu(model, CALM), 0, 6)
        torch.manual_seed(1)
        with PretendedGpu():
            model = build_model(small(), layout)
            theirs = steps(layout, place, model, optimizers._OnGpu(model, CALM, layout), 0, 6)
        return [ours, theirs]

    for ours, theirs in run_layout(layout, both):
        assert ours[-1][0] < ours[0][0]
        for mine, other in zip(ours, theirs, strict=True):
            assert mine == pytest.approx(other, rel=1e-4)


def test_ranks_that_meet_while_they_compute_take_the_steps_of_ranks_that_wait(
    run_layout: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
):
    layout, four = Layout(data_parallel=2), [*BATCHES[0], *BATCHES[1]]
    # Several buckets, as a large model has: while one is reduced, the gradients of the next are computed.
    config = partial(optimizers.DistributedDataParallelConfig, bucket_size=5_000)
    monkeypatch.setattr(optimizers, "DistributedDataParallelConfig", config)

    def weights(place: Place, model: Network, optimizer: Optimizer) -> list[torch.Tensor]:
        for _ in range(3):
            take(model, optimizer, four[place.data_rank :: 2])
        optimizer.gather()
        return [weight.detach().clone() for weight in model.parameters()]

    def both(place: Place) -> tuple[list[list[torch.Tensor]], list[bool]]:
        model = build_model(small(), layout)
        ours = weights(place, model, optimizers._OnCpu(model, CALM))
        torch.manual_seed(1)
        with PretendedGpu():
            model = build_model(small(), layout)
            optimizer = optimizers._OnGpu(model, CALM, layout)
            theirs = weights(place, model, optimizer)
            groups = optimizer.gradients.bucket_groups
            with optimizer.gradients.no_sync():
                losses(model, four[0]).sum().backward()
            waited = [group.grad_reduce_handle is None for group in groups]
            losses(model, four[1]).sum().backward()
            met = [group.grad_reduce_handle is not None for group in groups]
            stepped(optimizer, learning_rate=0.0, terms=1)
            to_gather = [not group.param_gather_dispatched for group in groups]
        assert len(groups) > 3
        return [ours, theirs], [*waited, *met, *to_gather]

    for (ours, theirs), facts in run_layout(layout, both):
        assert all(facts)
        for mine, other in zip(ours, theirs, strict=True):
            assert torch.allclose(mine, other, atol=1e-5)


def test_norms_do_not_decay_under_the_optimizer_for_gpus(run_layout: Callable[..., list[Any]]):
    def decayed(place: Place) -> dict[str, bool]:
        with PretendedGpu():
            model = build_model(small(), Layout())
            optimizer = optimizers._OnGpu(model, optimizers.AdamW(weight_decay=0.5, epsilon=1e30), Layout())
            before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
            take(model, optimizer, BATCHES[0], learning_rate=0.1)
        return {name: not torch.equal(weight, before[name]) for name, weight in model.named_parameters()}

    [moved] = run_layout(Layout(), decayed)
    assert {name for name, did in moved.items() if not did} == {name for name in moved if "norm" in name}


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize(
    ("saved", "resumed"),
    [
        pytest.param(Layout(data_parallel=2), Layout(tensor_parallel=2), marks=pytest.mark.slow),
        (Layout(tensor_parallel=2), Layout()),
    ],
    ids=str,
)
def test_the_optimizer_for_gpus_goes_on_at_another_layout(
    run_layout: Callable[..., list[Any]], tmp_path: Path, saved: Layout, resumed: Layout, dtype: torch.dtype
):
    def begin(place: Place) -> list[tuple[float, float]]:
        with PretendedGpu():
            model = build_model(small(), saved, precision=dtype)
            optimizer = optimizers._OnGpu(model, CALM, saved)
            steps(saved, place, model, optimizer, 0, 3)
            described = Checkpoint(small(), step=3, manifest_digest=DIGEST)
            save_checkpoint(tmp_path, described, model, optimizer, keep=1)
            return steps(saved, place, model, optimizer, 3, 6)

    def go_on(place: Place) -> list[tuple[float, float]]:
        with PretendedGpu():
            torch.manual_seed(9)
            model = build_model(small(), resumed, precision=dtype)
            optimizer = optimizers._OnGpu(model, CALM, resumed)
            resume(tmp_path / "step-00000003", model, optimizer, manifest_digest=DIGEST)
            return steps(resumed, place, model, optimizer, 3, 6)

    undisturbed = run_layout(saved, begin)[0]
    for found in run_layout(resumed, go_on):
        for mine, other in zip(undisturbed, found, strict=True):
            assert mine == pytest.approx(other, rel=1e-4 if dtype == torch.float32 else 0.02)
