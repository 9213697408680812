"""A CPU that answers to the name of CUDA, so that the optimizer for GPUs can be stepped where there is none.

megatron-core's optimizers make small tensors on 'cuda' by name and look at the types of gradients by name. Both are
answered here; kernels, precision of GPUs and NCCL are not, and are for tests/gpu.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


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
        if str(options.get("device", "")).startswith("cuda"):
            options["device"] = "cpu"
        if function is torch.Tensor.type and len(args) == 1 and not options:
            return function(*args).replace("torch.", "torch.cuda.")
        if function is torch.Tensor.cuda:
            return args[0]
        return function(*args, **options)
