"""The same bits in every run at one layout: algorithms of torch, cuBLAS and TransformerEngine that promise it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from orca_recipes.errors import TrainingError

_NONE = "does not have a deterministic implementation"
"""What torch 2.13 says of work whose result hangs on an order that nobody decides."""


@contextmanager
def deterministic(*, asked: bool) -> Iterator[None]:
    """Let nothing be computed otherwise while inside, where it is asked for.

    Raises: TrainingError, naming what has no such algorithm on this device.
    """
    if not asked:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ["NVTE_ALLOW_NONDETERMINISTIC_ALGO"] = "0"
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    except RuntimeError as error:
        what, is_none, _ = str(error).partition(_NONE)
        if not is_none:
            raise
        raise TrainingError(
            f"deterministic: {what.strip()} gives no two times the same bits on this device; leave deterministic out"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before)
