"""Spread of a request over processes: its device, number of ranks, and layout.

Whatever the request leaves open the machine decides: a GPU where there is one, and as many copies of the model as there
are ranks to hold them.
"""

from __future__ import annotations

from typing import Literal

import torch

from orca_recipes.errors import LayoutError
from orca_recipes.train.processes.parallel_layout import Layout
from orca_recipes.train.training_settings import Request


def chosen_device(request: Request) -> Literal["cpu", "cuda"]:
    """Choose the device of the model.

    Raises: LayoutError where a GPU is asked for and there is none.
    """
    if request.device == "cuda" and not torch.cuda.is_available():
        raise LayoutError("--device cuda: this machine has no GPU that torch can use; take --device cpu")
    return request.device or ("cuda" if torch.cuda.is_available() else "cpu")


def ranks_here(request: Request) -> int:
    """Count the ranks to start on this machine: copies as asked for, else as its GPUs hold, or one on a CPU.

    Raises: LayoutError where tensor parallel does not divide them, or more are asked for than there are GPUs.
    """
    copy = request.tensor_parallel * request.pipeline_parallel
    if chosen_device(request) == "cpu":
        return copy * (request.data_parallel or 1)
    gpus = torch.cuda.device_count()
    ranks = copy * (request.data_parallel or max(1, gpus // copy))
    if ranks > gpus:
        raise LayoutError(f"{ranks} ranks are asked for, and this machine has {gpus} GPUs; ask for fewer")
    return ranks


def layout_of(request: Request, ranks: int) -> Layout:
    """Return the layout of so many ranks.

    Raises: LayoutError where the request asks for another number.
    """
    copies, left = divmod(ranks, request.tensor_parallel * request.pipeline_parallel)
    if left or request.data_parallel not in (None, copies):
        asked = [f"tensor parallel {request.tensor_parallel}"]
        asked += [f"pipeline parallel {request.pipeline_parallel}"] if request.pipeline_parallel > 1 else []
        asked += [f"data parallel {request.data_parallel}"] if request.data_parallel else []
        raise LayoutError(
            f"{' and '.join(asked)} do not make the {ranks} ranks that were started; ask for a product of {ranks}"
        )
    return Layout(
        tensor_parallel=request.tensor_parallel,
        data_parallel=copies,
        sequence_parallel=request.sequence_parallel,
        device=chosen_device(request),
        pipeline_parallel=request.pipeline_parallel,
    )
