"""Sending tensors from the host to a device without halting either."""

from __future__ import annotations

import torch


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor of the host to a device; on a GPU, work goes on meanwhile.

    From pageable memory a copy would wait for all that the GPU has been given to do, and the host with it.
    """
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
