"""Attention of all spans in one call, on a CPU with a stand-in for the kernels, beside a call for each span."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from orca_recipes.train.model import network, segment_attention
from orca_recipes.train.model.network import build_model, losses
from orca_recipes.train.model.segment_attention import PackedSpans, SegmentAttention, varlen_computes
from orca_recipes.train.processes.parallel_layout import Layout, Place
from tests.train.agreement import Measured, measured
from tests.train.pretended_gpu import a_pretended_gpu
from tests.train.random_models import FAMILIES, save_random
from tests.train.rows import packed, small
from tests.train.varlen_kernel import CALLS

LENGTHS = [7, 1, 20, 5]


class _Config:
    """What attention reads of megatron-core's configuration."""

    def __init__(self, heads: int, groups: int, scale: float | None) -> None:
        self.num_attention_heads, self.num_query_groups, self.kv_channels = heads, groups, 8
        self.softmax_scale = scale


@pytest.mark.parametrize("window", [None, 1, 4, 100])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize(("scale", "turned"), [(None, 1.0), (0.3, 1.0), (None, 1.7)])
def test_one_call_attends_as_a_call_for_each_span(window: int | None, groups: int, scale: float | None, turned: float):
    bounds = torch.tensor([0, *LENGTHS]).cumsum(0).to(torch.int32)
    spans = PackedSpans(bounds=bounds, lengths=LENGTHS, max_seqlen_q=max(LENGTHS), max_seqlen_kv=max(LENGTHS))
    drawn = torch.Generator().manual_seed(1)
    shapes = [(sum(LENGTHS), heads, 8) for heads in (4, groups, groups)]
    parts = [torch.randn(shape, generator=drawn).requires_grad_() for shape in shapes]
    weights = torch.randn(shapes[0], generator=drawn)
    found = []
    for varlen in (False, True):
        attention = SegmentAttention(
            _Config(4, groups, scale),  # type: ignore[arg-type]
            window=window,
            turned_scale=turned,
            varlen=varlen,
        )
        CALLS.clear()
        attended = attention(*parts, None, packed_seq_params=spans)
        found.append([attended, *torch.autograd.grad((attended * weights).sum(), parts)])
        assert [len(LENGTHS)] * varlen == CALLS
    for each, together in zip(*found, strict=True):
        assert torch.allclose(each, together, atol=1e-5)


@pytest.fixture(scope="module")
def found(fork_from_here: Callable[..., list[Any]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Measured]:
    """Models of all families, whose layers compute all spans in one call."""
    place = tmp_path_factory.mktemp("varlen")
    folders = {family: save_random(place / family, family, 1) for family in FAMILIES}

    def fork(processes: int, body: Callable[[str], Any]) -> list[Any]:
        def in_one_call(rendezvous: str) -> Any:
            specify = network.layer_specs

            def with_varlen(*arguments: Any, **more: Any) -> Any:
                return specify(*arguments, **{**more, "varlen": True})

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(network, "layer_specs", with_varlen)
                return body(rendezvous)

        return fork_from_here(processes, in_one_call)

    layouts = [Layout(), Layout(tensor_parallel=2)]
    return measured(folders, tmp_path_factory.mktemp("work"), fork, layouts=layouts)


@pytest.mark.parametrize("family", FAMILIES)
def test_models_that_attend_in_one_call_give_the_logits_of_transformers(found: dict[str, Measured], family: str):
    assert (found[family].max_difference or 0) < 1e-4


def test_a_model_in_bfloat16_on_a_gpu_attends_in_one_call_a_layer(run_layout: Callable[..., list[Any]]):
    batch = packed(LENGTHS, [33], vocabulary=500)

    def attend(place: Place) -> list[Any]:
        told: list[Any] = []
        with a_pretended_gpu():
            for precision in (torch.bfloat16, torch.float32):
                torch.manual_seed(3)
                model = build_model(small(), Layout(device="cuda"), precision=precision)
                CALLS.clear()
                loss = losses(model, batch)
                told += [list(CALLS), loss.detach()]
        return told

    [(spans, loss, none, expected)] = run_layout(Layout(), attend)
    assert spans == [len(LENGTHS) + 1] * 2
    assert none == []
    assert torch.allclose(loss, expected, atol=0.05)


def test_what_the_kernels_do_not_take_is_left_to_calls_for_each_span(monkeypatch: pytest.MonkeyPatch):
    with a_pretended_gpu():
        assert varlen_computes(64, torch.bfloat16)
        assert not varlen_computes(64, torch.float32)
        assert not varlen_computes(20, torch.bfloat16)
        assert not varlen_computes(512, torch.bfloat16)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (7, 5))
        assert not varlen_computes(64, torch.bfloat16)


def test_a_torch_without_varlen_attention_or_with_less_of_it_is_left_to_calls_for_each_span(
    monkeypatch: pytest.MonkeyPatch,
):
    with a_pretended_gpu():
        monkeypatch.setattr(segment_attention, "_varlen", lambda: lambda query, key, value, *, scale=None: query)
        assert not varlen_computes(64, torch.bfloat16)
        monkeypatch.setattr(segment_attention, "_VARLEN", "torch.nn.attention.of_another_version")
        assert not varlen_computes(64, torch.bfloat16)
