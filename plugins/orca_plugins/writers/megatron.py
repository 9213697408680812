"""Shards as Megatron IndexedDataset pairs, which stock megatron-core opens.

They are guarded: `GPTDataset`, which would take each segment for a document and train on every token, fails on them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from orca_recipes.contract.kinds import Writer
from orca_recipes.shards.writer import write_pair


class Megatron(Writer):
    """Write `<prefix>.bin` and `<prefix>.idx`, with loss mask, roles and example bounds in the index's modes.

    [output]
    kind = "megatron"
    shard_tokens = 100_000_000
    """

    revision: ClassVar[int] = 2
    kind: Literal["megatron"] = "megatron"

    def write(
        self,
        *,
        prefix: Path,
        vocabulary_size: int,
        blocks: Iterator[np.ndarray],
        segment_lengths: np.ndarray,
        segment_modes: np.ndarray,
        row_starts: np.ndarray,
    ) -> Sequence[Path]:
        return write_pair(
            prefix=prefix,
            vocabulary_size=vocabulary_size,
            blocks=blocks,
            segment_lengths=segment_lengths,
            segment_modes=segment_modes,
            row_starts=row_starts,
            guarded=True,
        )
