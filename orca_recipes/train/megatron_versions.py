"""Differences of megatron-core's versions, 0.16 to 0.19, and what they ask of CUDA where nothing runs on it.

| since | difference                                                              | answered by                    |
| ----- | ----------------------------------------------------------------------- | ------------------------------ |
| 0.16  | buffers are made on `torch.cuda.current_device()`, checkpoints wait for | `standing_in_for_cuda`         |
|       | `torch.cuda.synchronize()`, also on a CPU                               |                                |
| 0.16  | schedules of pipelines make tensors on device 'cuda', tied tables that  | `standing_in_for_cuda_by_name` |
|       | two stages hold are sent there by `.cuda()`                             |                                |
| 0.16  | functions are given to torch.compile while they are imported, which     | `compile_when_called`          |
|       | loads its compilers: 2 of the 5.5 s of CPU that the import takes        |                                |
| 0.16  | a checkpoint's writers report to a manager, which runs the main module  | `reporting_to_this_process`    |
|       | anew, and measure their memory with psutil, which is not required       |                                |
| 0.17  | checkpoints are written in the background by another package, which is  | `begin_to_save`                |
|       | not required, unless megatron-core's own writers are asked for by name  |                                |
| 0.18  | `import triton`, unguarded, for kernels of experts; torch for CPUs      | `stand_in_for_triton`          |
|       | brings none                                                             |                                |
| 0.19  | a checkpoint's numbers that are no tensors lie among the tensors, where | `keep_numbers_for_older`,      |
|       | older ones read `common.pt`; it reads that too, and warns of it         | `reading_what_older_read`      |
| 0.19  | norms of queries and keys that the configuration does not switch on are | `norms_of_its_own`             |
|       | refused; switched on, gradients of norms that ranks hold in parts are   |                                |
|       | summed, in every version                                                |                                |
| 0.19  | gradients are reduced after a look at `torch.cuda.current_stream()`     | `standing_in_for_cuda`         |
| 0.19  | the gradients of a norm have another method, by groups of norms         | `gradients_of_norm`            |

A name that a version does not have yet is answered all the same: nobody asks for it.
"""

from __future__ import annotations

import importlib.util
import inspect
import logging
import queue
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, wraps
from pathlib import Path
from types import ModuleType
from typing import Any

_OF_TRITON = ("megatron.core.transformer.moe.paged_stash", "megatron.core.transformer.moe.ops.paged_stash")
"""Where 0.18 keeps the kernels, and where 0.19 does."""

_OF_COMPILERS = "megatron.core.jit"

_NUMBERS = "common.pt"


def stand_in_for_triton() -> None:
    """Let megatron-core be imported where triton is not installed; call it before.

    The modules that import triton stash activations of experts, which no model here has; their functions say so when
    they are called. Where triton is installed, nothing is done.
    """
    if importlib.util.find_spec("triton") is None:
        for name in _OF_TRITON:
            sys.modules.setdefault(name, _NeedsTriton(name))


def compile_when_called() -> None:
    """Let megatron-core's functions be compiled when they are called, not when they are imported; call it before.

    A CPU calls none of them, and a GPU its SwiGLU alone.
    """
    sys.modules.setdefault(_OF_COMPILERS, _CompilesLate(_OF_COMPILERS))


@contextmanager
def standing_in_for_cuda() -> Iterator[None]:
    """Let the CPU, which has one stream and never lags behind, be megatron-core's CUDA device while inside."""
    import torch

    with replaced(
        torch.cuda,
        current_device=lambda: torch.device("cpu"),
        synchronize=lambda device=None: None,
        current_stream=lambda device=None: _Stream(),
    ):
        yield


@contextmanager
def standing_in_for_cuda_by_name() -> Iterator[None]:
    """Lay tensors that are made on device 'cuda', or sent there, on the CPU while inside."""
    import torch

    def on_cpu(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*arguments: Any, device: Any = None, **more: Any) -> Any:
            is_named = device is not None and torch.device(device).type == "cuda"
            return make(*arguments, device="cpu" if is_named else device, **more)

        return made

    makers = {name: on_cpu(getattr(torch, name)) for name in ("empty", "tensor", "zeros", "ones")}
    with replaced(torch, **makers), replaced(torch.Tensor, cuda=lambda tensor, *_, **__: tensor):
        yield


@contextmanager
def norms_of_its_own(config: Any, *, has_some: bool) -> Iterator[None]:
    """Let layers be built with norms of queries and keys that their configuration does not switch on."""
    asked = config.qk_layernorm
    config.qk_layernorm = asked or has_some
    try:
        yield
    finally:
        config.qk_layernorm = asked


def gradients_of_norm(optimizer: Any) -> list[Any]:
    """Return the gradients that an optimizer's rank counts in their norm: a weight that several ranks hold, by one."""
    older = getattr(optimizer, "get_main_grads_for_grad_norm", None)
    return list(optimizer.get_grads_for_grad_norm() if older is None else older())


@contextmanager
def reporting_to_this_process(results: Any = None) -> Iterator[None]:
    """Have what writes a checkpoint report to this process alone, of faults too, and measure no memory.

    Args:
        results: a queue that other processes reach, where one of them writes; None where this one does.
    """
    from megatron.core.dist_checkpointing.strategies import filesystem_async

    queue_of_results = queue.Queue() if results is None else results
    with (
        replaced(filesystem_async, _results_queue=queue_of_results, _process_memory=lambda: 0),
        _silent("megatron.core.dist_checkpointing.strategies.filesystem_async", logging.CRITICAL),
        _silent("megatron.core.dist_checkpointing.strategies.torch", logging.ERROR),
    ):
        yield


def begin_to_save(state: dict[str, Any], folder: str) -> Any:
    """Plan a checkpoint and return megatron-core's request to write it, by its own writers in every version."""
    from megatron.core import dist_checkpointing

    is_named = "async_strategy" in inspect.signature(dist_checkpointing.save).parameters
    named = {"async_strategy": "mcore"} if is_named else {}
    return dist_checkpointing.save(state, folder, async_sharded_save=True, **named)


def keep_numbers_for_older(folder: Path) -> None:
    """Write a checkpoint's non-tensor numbers to `common.pt`, which all versions read, if this version did not."""
    import torch
    from megatron.core.dist_checkpointing import load_common_state_dict

    path = folder / _NUMBERS
    if not path.exists():
        torch.save(load_common_state_dict(str(folder)), path)


@contextmanager
def reading_what_older_read() -> Iterator[None]:
    """Warn nobody of a checkpoint that older versions can read too."""
    with _silent("megatron.core.dist_checkpointing.strategies.common", logging.ERROR):
        yield


@contextmanager
def replaced(module: ModuleType | type, **names: Any) -> Iterator[None]:
    """Let names of a module or a class mean something else while inside."""
    kept = {name: getattr(module, name) for name in names}
    for name, value in names.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(module, name, value)


@contextmanager
def _silent(log: str, below: int) -> Iterator[None]:
    """Let a log say nothing that weighs less."""
    asked = logging.getLogger(log)
    level = asked.level
    asked.setLevel(below)
    try:
        yield
    finally:
        asked.setLevel(level)


class _NeedsTriton(ModuleType):
    def __getattr__(self, name: str) -> Callable[..., Any]:
        # What asks about a module, as inspect and pickle do, is told the truth.
        if name.startswith("__"):
            raise AttributeError(name)

        def needs_triton(*_: Any, **__: Any) -> Any:
            raise ModuleNotFoundError(f"{self.__name__}.{name} needs triton: pip install triton", name="triton")

        return needs_triton


class _CompilesLate(ModuleType):
    @staticmethod
    def jit_fuser(function: Callable[..., Any]) -> Callable[..., Any]:
        @cache
        def compiled() -> Callable[..., Any]:
            import torch

            return torch.compile(function)

        @wraps(function)
        def called(*given: Any, **named: Any) -> Any:
            return compiled()(*given, **named)

        return called


class _Stream:
    """The one order in which a CPU works."""

    def wait_stream(self, stream: object) -> None:
        """Return: what was begun is done."""

    def wait_event(self, event: object) -> None:
        """Return: what was begun is done."""
