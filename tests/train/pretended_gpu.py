"""A CPU that answers to the name of CUDA, so that what is for GPUs can be run where there is none.

`PretendedGpu` is enough for the optimizer: megatron-core's makes small tensors on 'cuda' by name and looks at the types
of gradients by name. `a_pretended_gpu` is a whole machine for a training: what is sent to its device becomes `OnGpu`,
and so does all that is made there or of it; numpy cannot read it, as it cannot read a GPU's memory, and where a host
would wait for its GPU, `halts` says so. torch's varlen attention is computed by `varlen_kernel`, and what would be
compiled runs as it is written. Precision of GPUs and NCCL are not answered, and are for tests/gpu.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from megatron.core.tensor_parallel import random as tensor_parallel_random
from torch.overrides import TorchFunctionMode, get_default_nowrap_functions

import tests.train.varlen_kernel  # noqa: F401

GPU = torch.device("cuda", 0)

halts: list[str] = []
"""What made the host wait for the pretended GPU so far, in this process."""

_READS = {
    getattr(torch.Tensor, name)
    for name in ("item", "tolist", "cpu", "nonzero", "unique", "__bool__", "__float__", "__int__", "__index__")
} | {torch.nonzero, torch.unique, torch.masked_select, torch.Tensor.masked_select}
"""Functions whose result is a number of the host's, or is as long as numbers on the device say."""

_DEVICE_OF = torch.Tensor.device.__get__  # type: ignore[attr-defined]


class PretendedGpu(TorchFunctionMode):
    """Inside, device 'cuda' is the CPU and tensors on it have the types of CUDA's."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if _is_gpu(options.get("device")):
            options["device"] = "cpu"
        if function is torch.Tensor.type and len(args) == 1 and not options:
            return function(*args).replace("torch.", "torch.cuda.")
        if function is torch.Tensor.cuda:
            return args[0]
        if function is torch.Tensor.pin_memory:
            return args[0].as_subclass(Pinned)
        return function(*args, **options)


class Pinned(torch.Tensor):
    """A tensor in memory of the host that a GPU can read by itself."""


class OnGpu(torch.Tensor):
    """A tensor that was sent to the pretended GPU, or was made of one that was: numpy cannot read it."""

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in (torch.Tensor.numpy, torch.Tensor.__array__):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if func == _DEVICE_OF:
            return GPU
        goes_home = func is torch.Tensor.cpu or (func is torch.Tensor.to and "cpu" in map(str, args[1:]))
        if goes_home or func in _READS or (func is torch.Tensor.__getitem__ and _by_truths(args[1])):
            halts.append(func.__name__)
        with torch._C.DisableTorchFunctionSubclass():
            found = func(*args, **(kwargs or {}))
        if goes_home:
            return found.as_subclass(torch.Tensor)
        if func not in get_default_nowrap_functions() and found is not args[0]:
            _mark(found)
        return found

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


class _Machine(PretendedGpu):
    """As PretendedGpu, and what is sent to the device is marked."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is torch.Tensor.to and any(_is_gpu(word) for word in (*args[1:], *(kwargs or {}).values())):
            words = ["cpu" if _is_gpu(word) else word for word in args[1:]]
            options = {name: "cpu" if _is_gpu(word) else word for name, word in (kwargs or {}).items()}
            is_pinned = isinstance(args[0], Pinned)
            if not isinstance(args[0], OnGpu) and not (is_pinned and options.get("non_blocking")):
                halts.append("to")
            tensor = args[0].as_subclass(torch.Tensor) if isinstance(args[0], Pinned | OnGpu) else args[0]
            sent = function(tensor, *words, **options)
            # Weights and their gradients stay what they are: megatron-core knows them by attributes.
            return sent if isinstance(args[0], torch.nn.Parameter) else sent.as_subclass(OnGpu)
        found = super().__torch_function__(function, types, args, kwargs)
        if _is_gpu((kwargs or {}).get("device")) and isinstance(found, torch.Tensor):
            if function in (torch.tensor, torch.as_tensor):
                halts.append(function.__name__)
            return found.as_subclass(OnGpu)
        return found


@contextmanager
def a_pretended_gpu() -> Iterator[torch.device]:
    """Inside, this machine has one GPU, and a layout of one rank can train on it."""
    init, seeded = torch.distributed.init_process_group, tensor_parallel_random.model_parallel_cuda_manual_seed

    def gloo(backend: str, *, device_id: object = None, **options: Any) -> None:
        init("gloo", **options)

    def seed_the_cpu(seed: int, **_: object) -> None:
        seeded(seed, inference_rng_tracker=True, force_reset_rng=True)

    def of_a_thread(device: object) -> None:
        # torch's modes are a thread's own.
        if threading.current_thread() is not threading.main_thread():
            _Machine().__enter__()

    answers: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": of_a_thread,
        "synchronize": lambda device=None: None,
        "current_stream": lambda device=None: mock.Mock(),
        "get_device_name": lambda device=None: "a pretended GPU",
        "get_device_capability": lambda device=None: (9, 0),
        "get_device_properties": lambda device=None: mock.Mock(total_memory=80_000_000_000),
    }
    with (
        mock.patch.multiple(torch.cuda, **answers),
        mock.patch.object(torch, "compile", lambda function: function),
        mock.patch.object(torch.distributed, "init_process_group", gloo),
        mock.patch.object(tensor_parallel_random, "model_parallel_cuda_manual_seed", seed_the_cpu),
        _Machine(),
    ):
        yield GPU


def _mark(found: Any) -> None:
    """Make tensors into those of the GPU: not by `as_subclass`, whose result is a view that may not be changed."""
    if type(found) is torch.Tensor:
        found.__class__ = OnGpu
    elif isinstance(found, tuple | list):
        for one in found:
            _mark(one)


def _by_truths(index: object) -> bool:
    """Whether a tensor is looked up where truths say, whose number only the device knows."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, torch.Tensor) and part.dtype == torch.bool for part in parts)


def _is_gpu(device: object) -> bool:
    """As torch takes devices: a number is a GPU's."""
    is_number = isinstance(device, int) and not isinstance(device, bool)
    return is_number or (isinstance(device, str | torch.device) and str(device).startswith("cuda"))
