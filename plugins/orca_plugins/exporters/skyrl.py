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
pretokenized_dataset_paths: {paths}
max_length: {row_tokens}
```

Give the paths inside this folder. The mask is of the tokens themselves, not shifted, and as long as the example; the
number of actions follows from its first 1.

- leave `train_datasets` out: both are refused together;
- a smaller `max_length` than {longest} cuts examples and drops those whose labels are all beyond it.
"""


class SkyRL(Exporter):
    """Write Parquet of `input_ids` and `loss_mask` for SkyRL's `pretokenized_dataset_paths`, a line an example.

    kind = "skyrl"
    """

    title: ClassVar[str] = "SkyRL"
    kind: Literal["skyrl"] = "skyrl"

    def write(self, *, build: BuildToExport, shard: ShardToExport, folder: Path) -> Written:
        import pyarrow as pa

        written = Written()
        schema = pa.schema({"input_ids": pa.list_(pa.int32()), "loss_mask": pa.list_(pa.int8())})

        def lines(block: RowBlock) -> Mapping[str, pa.Array[Any]]:
            bounds = block.example_bounds
            return {"input_ids": ids_of(block, bounds), "loss_mask": mask_of(block, bounds)}

        path = folder / shard.dataset.name / file_of(shard, ".parquet")
        write_parquet(path, schema, map(lines, watched(shard, written)), rows=ROW_GROUP)
        return written

    def settings(self, *, build: BuildToExport, shards: Shards) -> str:
        paths = ", ".join(f'"{name}"' for name in shards)
        return _SETTINGS.format(paths=f"[{paths}]", row_tokens=build.row_tokens, longest=build.longest_example)

    def card(self, *, build: BuildToExport) -> Mapping[str, Any]:
        return {"configs": configs_of(build, "train-*.parquet"), "size_categories": [sizes_category(build)]}
