"""What a training tells of memory: an estimate beside what torch keeps, and a sentence where there is not enough."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from orca_recipes.errors import OutOfMemory
from orca_recipes.train import passes
from orca_recipes.train.model.architecture import Architecture
from orca_recipes.train.model.network import build_model, losses
from orca_recipes.train.model.recomputation import Recomputed
from orca_recipes.train.processes import memory
from orca_recipes.train.processes.memory import activation_bytes, held_bytes, memory_told
from orca_recipes.train.processes.parallel_layout import Layout
from orca_recipes.train.processes.rank import train_as_rank
from orca_recipes.train.training_settings import Request
from tests.train.pretended_gpu import a_pretended_gpu
from tests.train.rows import packed, small

WIDE = {"layers": 4, "hidden": 256, "mlp_hidden": 768, "heads": 8, "kv_heads": 4, "head_dim": 32}
ROWS, ROW_TOKENS, VOCABULARY = 2, 256, 1024


def asked(recompute: Recomputed = "none", *, rows: int = ROWS, trained: float = 1.0) -> Any:
    """Settings, as far as memory depends on them."""
    counts = SimpleNamespace(rows=100, trained_tokens=int(100 * ROW_TOKENS * trained))
    modules = "none" if recompute == "layers" else recompute
    training = SimpleNamespace(micro_batch_rows=rows, recompute=recompute == "layers", recompute_modules=modules)
    manifest = SimpleNamespace(row_tokens=ROW_TOKENS, datasets={"sums": counts})
    return SimpleNamespace(chosen=[SimpleNamespace(training=training, taken={"sums": 100})], manifest=manifest)


def kept_for_gradients(shape: Architecture, recompute: Recomputed) -> int:
    """Bytes that torch keeps of a forward pass, beside the weights."""
    model, kept = build_model(shape, Layout(), recompute=recompute), dict[int, int]()
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = packed([64] * (ROW_TOKENS // 64), [ROW_TOKENS], vocabulary=VOCABULARY)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = losses(model, batch).sum()
    loss.backward()
    return sum(kept.values())


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_what_is_kept_for_gradients_is_about_what_is_told(run_layout: Callable[..., list[Any]], family: str):
    shape = small(VOCABULARY, family=family, **WIDE)
    kinds: tuple[Recomputed, ...] = ("none", "core_attn", "mlp", "both", "layers")
    [found] = run_layout(Layout(), lambda place: {kind: kept_for_gradients(shape, kind) for kind in kinds})
    # The gradient of the logits comes later, and what a layer runs again, too.
    mlp = (found["none"] - found["mlp"]) / 4
    later = {"mlp": mlp, "both": mlp, "layers": found["none"] / 4}
    for kind in kinds:
        expected = found[kind] + ROWS * ROW_TOKENS * VOCABULARY * 4 + later.get(kind, 0)
        assert activation_bytes(asked(kind), shape, Layout()) == pytest.approx(expected, rel=0.2), kind


def test_a_model_of_600_million_parameters_is_told_as_it_is_held(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "can_be_compiled", lambda: True)
    shape = small(
        151_936,
        family="qwen3",
        layers=28,
        hidden=1024,
        mlp_hidden=3072,
        heads=16,
        kv_heads=8,
        head_dim=128,
        tied=True,
    )
    with a_pretended_gpu():
        eight = Layout(device="cuda", data_parallel=8)
        assert held_bytes(shape, eight) == pytest.approx(7.5 * 596e6, rel=0.01)
        assert memory_told(asked(rows=4, trained=0.4), shape, eight) == (
            "memory of a rank: about 4.5 GB of weights, gradients and optimizer, and 1.7 GB of activations; "
            "its GPU has 80.0 GB"
        )
        told = memory_told(asked(rows=512), shape, eight)
    assert told.endswith(
        "its GPU has 80.0 GB, which may not be enough: lower --micro-batch-rows, take --recompute, or raise "
        "--tensor-parallel or --pipeline-parallel"
    )


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_rank_without_memory_says_what_to_do_whichever_it_is(
    sums_build: Path,
    tmp_path: Path,
    fork_ranks: Callable[..., list[Any]],
    monkeypatch: pytest.MonkeyPatch,
    device: str,
):
    def take_too_much(*_: Any) -> torch.Tensor:
        if device == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return torch.empty(1 << 60, dtype=torch.uint8)

    monkeypatch.setattr(passes, "losses", take_too_much)
    request = Request(build=sums_build, out=tmp_path / "run", device=device)  # type: ignore[arg-type]

    def train(rendezvous: str) -> None:
        if device == "cuda":
            with a_pretended_gpu():
                train_as_rank(request)
        train_as_rank(request)

    with pytest.raises(OutOfMemory) as told:
        fork_ranks(1, train)
    where = (
        "the GPU (80.0 GB)" if device == "cuda" else f"the machine ({memory.size_told(memory.device_bytes(Layout()))})"
    )
    assert str(told.value) == (
        f"rank 0: the memory of {where} is not enough; lower --micro-batch-rows, take --recompute, or raise "
        "--tensor-parallel or --pipeline-parallel, and run the same command again"
    )


def test_a_rank_that_does_not_speak_for_all_speaks_of_its_own_memory(
    sums_build: Path, tmp_path: Path, fork_ranks: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
):
    real = passes.losses

    def second_has_none(*given: Any) -> torch.Tensor:
        if torch.distributed.get_rank() == 1:
            raise MemoryError
        return real(*given)

    monkeypatch.setattr(passes, "losses", second_has_none)
    request = Request(build=sums_build, out=tmp_path / "run", device="cpu", data_parallel=2)

    def train(rendezvous: str) -> str:
        try:
            train_as_rank(request, rendezvous=rendezvous)
        except BaseException as error:
            return f"{type(error).__name__}: {error}"
        return "trained"

    first, second = fork_ranks(2, train)
    assert second.startswith("OutOfMemory: rank 1: the memory of the machine")
    assert first.startswith("Failure: another rank ended in the middle of a step")
