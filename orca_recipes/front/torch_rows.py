"""Rows of a build as a torch dataset."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from orca_recipes.errors import PluginError

if TYPE_CHECKING:
    from torch.utils.data import Dataset as TorchDataset

    from orca_recipes.shards.manifest import Manifest
    from orca_recipes.shards.reader import Shard


def torch_rows(shards: Sequence[Shard], manifest: Manifest) -> TorchDataset[dict[str, Any]]:
    """Give the rows of a dataset's shards as tensors; see `Dataset.to_torch`.

    Raises: PluginError where torch is not installed.
    """
    if find_spec("torch") is None:
        raise PluginError("rows as tensors need an extra package: pip install 'orca-recipes[train]'")
    # Torch takes seconds to import: a class of ours that derives from its Dataset is made here, not at import.
    import torch
    from torch.utils.data import Dataset as TorchDataset

    starts = [0, *accumulate(shard.rows for shard in shards)]

    class Rows(TorchDataset[dict[str, Any]]):
        def __len__(self) -> int:
            return starts[-1]

        def __getitem__(self, row: int) -> dict[str, Any]:
            if not 0 <= row < starts[-1]:
                raise IndexError(f"there are rows 0 to {starts[-1] - 1}, and no row {row}")
            number = bisect_right(starts, row) - 1
            view = shards[number].training_view(
                row - starts[number], row_tokens=manifest.row_tokens, align=manifest.align, pad_id=manifest.pad_id
            )
            arrays = ("tokens", "labels", "loss_mask", "position_ids", "cu_seqlens")
            tensors = {name: torch.from_numpy(getattr(view, name)) for name in arrays}
            return {**tensors, "max_seqlen": view.max_seqlen}

    return Rows()
