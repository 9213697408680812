"""Examples as axolotl takes them for tokenized: three columns by name, and no others, which its packing would join."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from orca_plugins.exporters.token_columns import (
    ROW_GROUP,
    attended,
    configs_of,
    file_of,
    sizes_category,
    watched,
    write_parquet,
)
from orca_recipes.contract.exporter import BuildToExport, Exporter, Shards, ShardToExport, Written

_SETTINGS = """\
## axolotl

```yaml
datasets:
{datasets}
sequence_len: {row_tokens}
sample_packing: true
```

Give the path of this folder in place of `./`. `type` is left empty: axolotl takes the columns `input_ids`,
`attention_mask` and `labels` for tokenized and applies no template; it packs by itself under `sample_packing`.

- axolotl keeps what it prepared by the text of the configuration, not by the data: after another export into the same
  folder, remove `dataset_prepared_path`;
- a smaller `sequence_len` than {longest} drops examples;
- examples of a row stay apart only with an attention that knows their bounds (`flash_attention: true`).
"""


class Axolotl(Exporter):
    """Write Parquet of `input_ids`, `attention_mask` and `labels` for axolotl, a line an example.

    kind = "axolotl"
    """

    title: ClassVar[str] = "axolotl"
    kind: Literal["axolotl"] = "axolotl"

    def write(self, *, build: BuildToExport, shard: ShardToExport, folder: Path) -> Written:
        import pyarrow as pa

        written = Written()
        ids = pa.list_(pa.int32())
        schema = pa.schema({"input_ids": ids, "attention_mask": pa.list_(pa.int8()), "labels": ids})
        path = folder / shard.dataset.name / file_of(shard, ".parquet")
        write_parquet(path, schema, map(attended, watched(shard, written)), rows=ROW_GROUP)
        return written

    def settings(self, *, build: BuildToExport, shards: Shards) -> str:
        lines = (f"  - path: ./{name}\n    ds_type: parquet\n    type:" for name in shards)
        return _SETTINGS.format(datasets="\n".join(lines), row_tokens=build.row_tokens, longest=build.longest_example)

    def card(self, *, build: BuildToExport) -> Mapping[str, Any]:
        return {"configs": configs_of(build, "train-*.parquet"), "size_categories": [sizes_category(build)]}
