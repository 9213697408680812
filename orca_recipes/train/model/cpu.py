"""What megatron-core asks of CUDA even where nothing runs on it, answered for the CPU.

Two names are enough: buffers and positions are made on `torch.cuda.current_device()`, and checkpoints wait for
`torch.cuda.synchronize()`. They are replaced while a layout on the CPU runs, and put back when it stops.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def standing_in_for_cuda() -> Iterator[None]:
    """Inside, megatron-core's CUDA device is the CPU."""
    kept = torch.cuda.current_device, torch.cuda.synchronize
    torch.cuda.current_device = _cpu  # type: ignore[assignment]
    torch.cuda.synchronize = _nothing_to_wait_for
    try:
        yield
    finally:
        torch.cuda.current_device, torch.cuda.synchronize = kept


def _cpu() -> torch.device:
    return torch.device("cpu")


def _nothing_to_wait_for(device: object = None) -> None:
    pass
