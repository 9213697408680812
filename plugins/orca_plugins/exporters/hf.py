"""Ids and labels as TRL, Unsloth and `datasets` read them.

`labels` are written, never a mask: TRL takes `completion_mask` into account only under `completion_only_loss=True`, and
without it trains on every token, which nothing shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from orca_plugins.exporters.token_columns import (
    CUT_OFF,
    JOINED,
    ROW_GROUP,
    TRAINED_TOO,
    TRL_MAX_LENGTH,
    configs_of,
    file_of,
    ids_of,
    labels_of,
    labels_past,
    others,
    sizes_category,
    unlabelled,
    watched,
    write_parquet,
)
from orca_recipes.contract.exporter import (
    BuildToExport,
    Exporter,
    RowBlock,
    Shards,
    ShardToExport,
    Written,
    list_of,
)

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_UNPACKED = """\
## TRL

```python
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

dataset = load_dataset("parquet", data_files="{dataset}/train-*.parquet", split="train")
SFTConfig(packing=True, max_length={row_tokens}, packing_strategy="bfd")
```

Paths are relative to this folder{others}; from a hub, `load_dataset("REPO", "{dataset}", split="train")` loads the
same. One line is one example; TRL packs. Examples that are longer than `max_length` would be truncated: here the
longest has {longest} tokens. Examples of one row stay apart only under FlashAttention 2 or 3 (`attn_implementation`);
TRL warns where it is another.

- `completion_only_loss` and `assistant_only_loss` are left alone: the labels are written.
"""
_PACKED = """\
## TRL

```python
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

dataset = load_dataset("parquet", data_files="{dataset}/train-*.parquet", split="train")
SFTConfig(packing=False, padding_free=True, max_length=None)
```

Paths are relative to this folder{others}; from a hub, `load_dataset("REPO", "{dataset}", split="train")` loads the
same. One line is one packed row; `seq_lengths` are the tokens of its examples. These three settings and no others are
right:

- `packing=True` drops `seq_lengths` and joins each row into one example, which nothing shows;
- the default `max_length` truncates every row to 1,024 tokens, and their labels are lost;
- without `padding_free=True`, or without FlashAttention 2 or 3, the examples of a row see each other.
"""
_TRUNCATES = f"`max_length` left at TRL's {TRL_MAX_LENGTH:,}"
_MASKS = "`completion_mask` in place of `labels`, without `completion_only_loss=True`"


class HF(Exporter):
    """Write Parquet of `input_ids` and `labels`, for TRL, Unsloth and `datasets`.

    Labels are not shifted: a trained token is its own label, all others are -100. Options are given as
    `orca-recipe export BUILD --to hf --set packed=true`.

    kind = "hf"
    packed = true
    """

    revision: ClassVar[int] = 3
    title: ClassVar[str] = "TRL"
    kind: Literal["hf"] = "hf"
    packed: Annotated[
        bool, Field(description="a line is a packed row with `seq_lengths`, not an example; needs exact settings")
    ] = False

    def write(self, *, build: BuildToExport, shard: ShardToExport, folder: Path) -> Written:
        import pyarrow as pa

        written = Written()
        ids = pa.list_(pa.int32())
        columns = {"input_ids": ids, "labels": ids} | ({"seq_lengths": ids} if self.packed else {})

        def lines(block: RowBlock) -> Mapping[str, pa.Array[Any]]:
            bounds = block.row_bounds if self.packed else block.example_bounds
            self._count(block, bounds, written)
            told = {"input_ids": ids_of(block, bounds), "labels": labels_of(block, bounds)}
            if not self.packed:
                return told
            lengths = list_of(block.segments.example_tokens, block.segments.row_examples, pa.int32())
            return {**told, "seq_lengths": lengths}

        path = folder / shard.dataset.name / file_of(shard, ".parquet")
        write_parquet(path, pa.schema(list(columns.items())), map(lines, watched(shard, written)), rows=ROW_GROUP)
        return written

    def _count(self, block: RowBlock, bounds: np.ndarray, written: Written) -> None:
        written.risk(_TRUNCATES, CUT_OFF, int(labels_past(block, bounds, TRL_MAX_LENGTH).sum()))
        written.risk(_MASKS, TRAINED_TOO, unlabelled(block))
        if self.packed:
            joined = block.segments.examples - block.segments.rows
            written.risk("`packing=True`", JOINED, joined)
            written.risk("`padding_free=True` left out", JOINED, joined)

    def settings(self, *, build: BuildToExport, shards: Shards) -> str:
        text = _PACKED if self.packed else _UNPACKED
        return text.format(
            dataset=build.datasets[0].name,
            others=others(build),
            row_tokens=build.row_tokens,
            longest=build.longest_example,
        )

    def card(self, *, build: BuildToExport) -> Mapping[str, Any]:
        return {
            "configs": configs_of(build, "train-*.parquet"),
            "size_categories": [sizes_category(build)],
            "task_categories": ["text-generation"],
        }
