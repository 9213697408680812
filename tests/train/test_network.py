"""What the model makes of packed rows, at every layout."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from orca_recipes.train.model import cross_entropy, fusion
from orca_recipes.train.model.network import build_model, logits, losses
from orca_recipes.train.model.recomputation import Recomputed
from orca_recipes.train.processes.parallel_layout import Layout, Place
from tests.train.pretended_gpu import a_pretended_gpu
from tests.train.rows import Packed, packed, small

LAYOUTS = [Layout(), Layout(tensor_parallel=2), Layout(tensor_parallel=2, sequence_parallel=True)]


def one_by_one(batch: Packed) -> list[Packed]:
    return [
        Packed(
            batch.tokens_BT[row : row + 1, start:end],
            batch.labels_BT[row : row + 1, start:end],
            batch.loss_mask_BT[row : row + 1, start:end],
            [np.array([0, end - start], dtype=np.int32)],
        )
        for row, bounds in enumerate(batch.cu_seqlens)
        for start, end in pairwise(bounds)
    ]


def test_a_packed_row_gives_the_loss_that_its_examples_give_alone(run_layout: Callable[..., list[Any]]):
    batch = packed([7, 20, 5], [32], [16, 16], vocabulary=500)

    def compare(place: Place) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        model = build_model(small(), Layout())
        alone = torch.cat([losses(model, example).detach().flatten() for example in one_by_one(batch)])
        together = losses(model, batch).detach().flatten()
        return alone, together, losses(model, batch.without_isolation()).detach().flatten()

    [(alone, together, mixed)] = run_layout(Layout(), compare)
    assert torch.allclose(alone, together, atol=1e-5)
    assert (mixed - together).abs().max() > 0.01


@pytest.mark.parametrize("layout", LAYOUTS[1:], ids=str)
@pytest.mark.parametrize("vocabulary", [500, 60])
def test_a_seed_gives_one_model_whose_loss_is_the_same_at_every_layout(
    run_layout: Callable[..., list[Any]], layout: Layout, vocabulary: int
):
    batch = packed([7, 20, 5], [16, 16], vocabulary=vocabulary)

    def loss(place: Place) -> torch.Tensor:
        return losses(build_model(small(vocabulary), chosen), batch).detach()

    chosen = Layout()
    [alone] = run_layout(chosen, loss)
    chosen = layout
    for shared in run_layout(chosen, loss):
        assert torch.allclose(alone, shared, atol=1e-5)


def test_what_pads_the_vocabulary_is_never_predicted_and_costs_no_loss(run_layout: Callable[..., list[Any]]):
    batch = packed([32], vocabulary=500)

    def look(place: Place) -> tuple[torch.Tensor, torch.Tensor]:
        model = build_model(small(500), Layout(tensor_parallel=2))
        return logits(model, batch).detach(), losses(model, batch).detach()

    for scores, loss in run_layout(Layout(tensor_parallel=2), look):
        assert scores.shape == (1, 32, 512)
        assert torch.isinf(scores[..., 500:]).all()
        expected = torch.nn.functional.cross_entropy(scores[0, :, :500], batch.labels_BT[0], reduction="none")
        assert torch.allclose(loss[0], expected, atol=1e-5)


KINDS: tuple[Recomputed, ...] = ("none", "core_attn", "mlp", "both", "layers")


@pytest.mark.parametrize("layout", [Layout(), Layout(tensor_parallel=2, sequence_parallel=True)], ids=str)
def test_running_parts_of_layers_again_changes_no_loss_and_no_gradient(
    run_layout: Callable[..., list[Any]], layout: Layout
):
    batch = packed([7, 20, 5], [16, 16], vocabulary=500)

    def computed(place: Place) -> list[list[torch.Tensor]]:
        found = []
        for what in KINDS:
            torch.manual_seed(3)
            model = build_model(small(), layout, recompute=what)
            loss_BT = losses(model, batch)
            loss_BT.sum().backward()
            found.append([loss_BT.detach(), *(weight.grad for weight in model.parameters())])
        return found

    for kept, *others in run_layout(layout, computed):
        for run_again in others:
            assert all(torch.equal(one, other) for one, other in zip(kept, run_again, strict=True))


def test_what_is_run_again_is_not_kept(run_layout: Callable[..., list[Any]]):
    batch = packed([7, 20, 5], [16, 16], vocabulary=500)

    def measured(place: Place) -> list[int]:
        found = []
        for what in KINDS:
            model, kept = build_model(small(), Layout(), recompute=what), {}

            def keep(tensor: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
                kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                loss = losses(model, batch).sum()
            loss.backward()
            found.append(sum(kept.values()))
        return found

    [(none, attention, mlp, both, layers)] = run_layout(Layout(), measured)
    assert none > attention > both > layers
    assert none > mlp > both


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_losses_and_gradients_are_those_of_torch_whichever_places_are_asked_for(
    run_layout: Callable[..., list[Any]], layout: Layout, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cross_entropy, "_AT_ONCE", 600)  # two or three rows at a time
    batch = packed([7, 20, 5], [16, 16], vocabulary=500)
    asked = replace(batch, wanted=batch.loss_mask_BT.view(-1).nonzero()[:, 0])

    def found(place: Place) -> list[tuple[torch.Tensor, list[torch.Tensor]]]:
        told = []
        for rows in (batch, asked, None):
            torch.manual_seed(3)
            model = build_model(small(), layout)
            if rows is None:
                scores = logits(model, batch)[..., :500].flatten(0, 1)
                loss = torch.nn.functional.cross_entropy(scores, batch.labels_BT.flatten(), reduction="none")
            else:
                loss = losses(model, rows).flatten()
            loss = loss * batch.loss_mask_BT.flatten()
            loss.sum().backward()
            told.append((loss.detach(), [weight.grad for weight in model.parameters()]))
        return told

    for whole, some, witness in run_layout(layout, found):
        for loss, gradients in (whole, some):
            assert torch.allclose(loss, witness[0], atol=1e-5)
            if layout == Layout():
                assert all(torch.allclose(*pair, atol=1e-5) for pair in zip(gradients, witness[1], strict=True))
        assert all(torch.allclose(*pair, atol=1e-5) for pair in zip(whole[1], some[1], strict=True))


def test_a_fused_swiglu_has_the_losses_and_gradients_of_a_plain_one_and_keeps_less(
    run_layout: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
):
    batch = packed([7, 20, 5], [16, 16], vocabulary=500)

    def computed(place: Place) -> list[tuple[bool, int, list[torch.Tensor]]]:
        found = []
        with a_pretended_gpu():
            for is_there in (False, True):
                monkeypatch.setattr(fusion, "can_be_compiled", lambda is_there=is_there: is_there)
                torch.manual_seed(3)
                model, kept = build_model(small(), Layout(device="cuda"), precision=torch.float32), set[int]()

                def keep(tensor: torch.Tensor, kept: set[int] = kept) -> torch.Tensor:
                    kept.add(tensor.untyped_storage().data_ptr())
                    return tensor

                with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                    loss_BT = losses(model, batch)
                gradients = torch.autograd.grad(loss_BT.sum(), list(model.parameters()))
                found.append((model.config.bias_activation_fusion, len(kept), [loss_BT.detach(), *gradients]))
        return found

    [((is_plain_fused, kept, plain), (is_fused, kept_fused, fused))] = run_layout(Layout(), computed)
    assert (is_plain_fused, is_fused) == (False, True)
    assert kept_fused < kept
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(plain, fused, strict=True))


def test_other_activations_are_not_fused(run_layout: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch):
    def look(place: Place) -> bool:
        monkeypatch.setattr(fusion, "can_be_compiled", lambda: True)
        shape = small(family="gemma3_text", query_scalar=8.0, window_rope_base=1e4)
        with a_pretended_gpu():
            return bool(build_model(shape, Layout(device="cuda")).config.bias_activation_fusion)

    assert run_layout(Layout(), look) == [False]


def test_a_machine_that_cannot_compile_fuses_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fusion.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(fusion.Path, "is_file", lambda path: True)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(fusion.shutil, "which", lambda name: name)
    assert fusion.can_be_compiled()
    monkeypatch.setattr(fusion.shutil, "which", lambda name: None if name in ("gcc", "clang") else name)
    assert not fusion.can_be_compiled()
    monkeypatch.setenv("CC", "icx")
    assert fusion.can_be_compiled()
    monkeypatch.setattr(fusion.Path, "is_file", lambda path: False)
    assert not fusion.can_be_compiled()
