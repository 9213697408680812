"""Examples as SkyRL reads tokenized data for SFT: ids and a full mask of 0 and 1; it ignores `labels`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from orca_plugins.exporters.token_columns import (
    ROW_GROUP,
    configs_of,
    file_of,
    ids_of,
    mask_of,
    others,
    sizes_category,
    watched,
    write_parquet,
)
from orca_recipes.contract.exporter import BuildToExport, Exporter, RowBlock, Shards, ShardToExport, Written

if TYPE_CHECKING:
    import pyarrow as pa

_SETTINGS = """\
## SkyRL

```yaml
pretokenized_dataset_paths: ["{dataset}"]
max_length: {row_tokens}
```

Give the path inside this folder{others}. The mask is of the tokens themselves, not shifted, and as long as the
example; the number of actions follows from its first 1.

- leave `train_datasets` out: both are refused together;
- a smaller `max_length` than {longest} cuts examples and drops those whose labels are all beyond it;
- one dataset at a time: of several paths SkyRL draws examples with replacement, in equal shares unless
  `train_dataset_weights` says otherwise, so that an epoch never sees many of them and others twice.
"""
_TOGETHER = "all datasets in `pretokenized_dataset_paths`"
_UNDRAWN = "examples that an epoch is not expected to draw"


class SkyRL(Exporter):
    """Write Parquet of `input_ids` and `loss_mask` for SkyRL's `pretokenized_dataset_paths`, a line an example.

    kind = "skyrl"
    """

    revision: ClassVar[int] = 3
    title: ClassVar[str] = "SkyRL"
    kind: Literal["skyrl"] = "skyrl"

    def write(self, *, build: BuildToExport, shard: ShardToExport, folder: Path) -> Written:
        import pyarrow as pa

        written = Written()
        schema = pa.schema({"input_ids": pa.list_(pa.int32()), "loss_mask": pa.list_(pa.int8())})

        def lines(block: RowBlock) -> Mapping[str, pa.Array[Any]]:
            bounds = block.example_bounds
            return {"input_ids": ids_of(block, bounds), "loss_mask": mask_of(block, bounds)}

        if shard.number == 0:
            written.risk(_TOGETHER, _UNDRAWN, _undrawn(build, shard.dataset.examples))
        path = folder / shard.dataset.name / file_of(shard, ".parquet")
        write_parquet(path, schema, map(lines, watched(shard, written)), rows=ROW_GROUP)
        return written

    def settings(self, *, build: BuildToExport, shards: Shards) -> str:
        first = build.datasets[0].name
        return _SETTINGS.format(
            dataset=first, others=others(build), row_tokens=build.row_tokens, longest=build.longest_example
        )

    def card(self, *, build: BuildToExport) -> Mapping[str, Any]:
        return {"configs": configs_of(build, "train-*.parquet"), "size_categories": [sizes_category(build)]}


def _undrawn(build: BuildToExport, examples: int) -> int:
    """Count the examples of one dataset that SkyRL is expected to leave out where it mixes all datasets.

    It makes as many draws as there are examples in all, with replacement, and gives each dataset the same share of them
    (`DataMixingSampler`, skyrl 0.4.0). One dataset alone is shuffled, and none is left out.
    """
    if len(build.datasets) == 1:
        return 0
    draws = sum(dataset.examples for dataset in build.datasets)
    return round(examples * (1 - 1 / (len(build.datasets) * examples)) ** draws)
