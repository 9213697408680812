"""Tests that need a GPU; without one they are skipped. They run in this process: on one GPU there is nobody to meet."""

import warnings
from collections.abc import Iterator

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torch

    import orca_recipes.train.model.network  # noqa: F401
    from orca_recipes.train.processes.parallel_layout import Layout, Place, running

ONE_GPU = Layout(device="cuda")


@pytest.fixture
def gpu() -> Iterator[Place]:
    """A running layout on one GPU."""
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with running(ONE_GPU, seed=1) as place:
            yield place
    torch.cuda.empty_cache()
