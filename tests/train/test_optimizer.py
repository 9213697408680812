"""Steps: the exact mean over target tokens, the same at every layout; no decay on norms; clipping."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from megatron.core import parallel_state

from orca_recipes.train.model.network import Network, build_model, losses
from orca_recipes.train.optimizer import AdamW, Optimizer, Step, build_optimizer
from orca_recipes.train.processes.parallel_layout import Layout, Place
from tests.train.rows import Packed, packed, small, stepped

LAYOUTS = [
    Layout(),
    Layout(tensor_parallel=2),
    Layout(tensor_parallel=2, sequence_parallel=True),
    Layout(data_parallel=2),
]
CALM = AdamW(epsilon=1e-3)
"""Adam divides rounding by the root of its second moment; a large epsilon keeps it small."""

BATCHES = [
    [packed([7, 20, 5], vocabulary=500, seed=step), packed([16, 16], vocabulary=500, seed=100 + step)]
    for step in range(2)
]


def take(model: Network, optimizer: Optimizer, micro_batches: list[Packed], learning_rate: float = 0.01) -> Step:
    targets = 0
    for number, batch in enumerate(micro_batches, start=1):
        with optimizer.gradients.no_sync() if number < len(micro_batches) else nullcontext():
            loss_BT = losses(model, batch)
            torch.where(batch.loss_mask_BT > 0, loss_BT, 0.0).sum().backward()
        targets += int(batch.loss_mask_BT.sum())
    everywhere = torch.tensor(targets)
    torch.distributed.all_reduce(everywhere, group=parallel_state.get_data_parallel_group())
    return stepped(optimizer, learning_rate=learning_rate, terms=int(everywhere))


def mean_loss(model: Network, batches: list[Packed]) -> float:
    with torch.no_grad():
        total = sum(float((losses(model, batch) * batch.loss_mask_BT).sum()) for batch in batches)
    return total / sum(float(batch.loss_mask_BT.sum()) for batch in batches)


def curve(layout: Layout, place: Place) -> list[tuple[float, float]]:
    """Loss and gradient norm of each step; data-parallel ranks take one micro-batch each, others both."""
    model = build_model(small(), layout)
    optimizer = build_optimizer(model, layout, CALM)
    found = []
    for batches in BATCHES * 4:
        loss = mean_loss(model, batches)
        step = take(model, optimizer, batches[place.data_rank :: layout.data_parallel])
        found.append((loss, step.gradient_norm))
    return found


@pytest.mark.slow
def test_loss_curves_of_all_layouts_agree(run_layout: Callable[..., list[Any]]):
    [alone] = run_layout(LAYOUTS[0], lambda place: curve(LAYOUTS[0], place))
    assert alone[-1][0] < alone[0][0]
    for layout in LAYOUTS[1:]:
        for shared in run_layout(layout, lambda place, layout=layout: curve(layout, place)):
            for ours, theirs in zip(alone, shared, strict=True):
                assert ours == pytest.approx(theirs, rel=1e-4), str(layout)


def test_rows_in_one_micro_batch_or_in_two_make_the_same_step(run_layout: Callable[..., list[Any]]):
    one, two = BATCHES[0]
    both = Packed(
        torch.cat([one.tokens_BT, two.tokens_BT]),
        torch.cat([one.labels_BT, two.labels_BT]),
        torch.cat([one.loss_mask_BT, two.loss_mask_BT]),
        one.cu_seqlens + two.cu_seqlens,
    )

    def weights(place: Place) -> list[list[torch.Tensor]]:
        found = []
        for micro_batches in ([one, two], [both]):
            torch.manual_seed(1)
            model = build_model(small(), Layout())
            take(model, build_optimizer(model, Layout(), CALM), micro_batches)
            found.append([weight.detach() for weight in model.parameters()])
        return found

    [(apart, joined)] = run_layout(Layout(), weights)
    for ours, theirs in zip(apart, joined, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_masked_tokens_send_no_gradient(run_layout: Callable[..., list[Any]]):
    batch = packed([7, 20, 5], vocabulary=500)

    def gradients(place: Place) -> torch.Tensor:
        model = build_model(small(), Layout())
        loss_BT = losses(model, batch)
        [gradient] = torch.autograd.grad(
            torch.where(batch.loss_mask_BT > 0, loss_BT, 0.0).sum(), [loss_BT], retain_graph=True
        )
        # A label without loss may be any token at all.
        other = Packed(
            batch.tokens_BT,
            torch.where(batch.loss_mask_BT > 0, batch.labels_BT, 499),
            batch.loss_mask_BT,
            batch.cu_seqlens,
        )
        found = []
        for labels in (batch, other):
            model.zero_grad()
            torch.where(batch.loss_mask_BT > 0, losses(model, labels), 0.0).sum().backward()
            found.append(torch.cat([weight.grad.flatten() for weight in model.parameters()]))
        assert torch.equal(*found)
        return gradient

    [gradient] = run_layout(Layout(), gradients)
    assert torch.equal(gradient, batch.loss_mask_BT)


def test_weights_decay_and_norms_do_not(run_layout: Callable[..., list[Any]]):
    def moved(place: Place) -> dict[str, bool]:
        model = build_model(small(), Layout())
        optimizer = build_optimizer(model, Layout(), AdamW(weight_decay=0.5, epsilon=1e30))
        before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        take(model, optimizer, BATCHES[0], learning_rate=0.1)
        return {name: not torch.equal(weight, before[name]) for name, weight in model.named_parameters()}

    [decayed] = run_layout(Layout(), moved)
    assert {name for name, moved in decayed.items() if not moved} == {name for name in decayed if "norm" in name}


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_the_gradient_of_the_whole_model_is_clipped(run_layout: Callable[..., list[Any]], layout: Layout):
    """Without momentum and with an epsilon as large as the rate, AdamW's step is the clipped gradient itself."""
    options = AdamW(weight_decay=0.0, beta1=0.0, beta2=0.0, epsilon=1e4, clip=0.01)

    def lengths(place: Place) -> tuple[float, float]:
        model = build_model(small(), layout)
        before = [weight.detach().clone() for weight in model.parameters()]
        mine = BATCHES[0][place.data_rank :: layout.data_parallel]
        step = take(model, build_optimizer(model, layout, options), mine, learning_rate=1e4)
        square = torch.zeros((), dtype=torch.float64)
        for old, new in zip(before, model.parameters(), strict=True):
            whole = getattr(new, "tensor_model_parallel", False)
            square += (new - old).double().square().sum() / (1 if whole else layout.tensor_parallel)
        torch.distributed.all_reduce(square, group=parallel_state.get_tensor_model_parallel_group())
        return step.gradient_norm, float(square.sqrt())

    for norm, moved in run_layout(layout, lengths):
        assert norm > 0.02
        assert moved == pytest.approx(0.01, rel=1e-3)


def test_a_step_whose_gradient_is_not_finite_leaves_the_weights_alone(run_layout: Callable[..., list[Any]]):
    def step(place: Place) -> tuple[Step, bool]:
        model = build_model(small(), Layout())
        optimizer = build_optimizer(model, Layout(), CALM)
        before = [weight.detach().clone() for weight in model.parameters()]
        (losses(model, BATCHES[0][0]).sum() * math.nan).backward()
        taken = stepped(optimizer, learning_rate=0.1, terms=10)
        same = all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
        return taken, same

    [(taken, same)] = run_layout(Layout(), step)
    assert not taken.is_taken
    assert math.isnan(taken.gradient_norm)
    assert same


def test_a_step_without_a_target_leaves_weights_and_moments_alone(run_layout: Callable[..., list[Any]]):
    def step(place: Place) -> tuple[list[Step], bool]:
        model = build_model(small(), Layout())
        optimizer = build_optimizer(model, Layout(), CALM)
        take(model, optimizer, BATCHES[0])
        before = [weight.detach().clone() for weight in model.parameters()]
        nothing = replace(BATCHES[0][0], loss_mask_BT=torch.zeros_like(BATCHES[0][0].loss_mask_BT))
        empty = take(model, optimizer, [nothing])
        same = all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
        return [empty, take(model, optimizer, BATCHES[1])], same

    [((empty, next_step), same)] = run_layout(Layout(), step)
    assert (empty, same) == (Step(gradient_norm=0.0, is_taken=True), True)
    assert next_step.gradient_norm > 0
