"""Examples as axolotl takes them for tokenized: three columns by name, and no others, which its packing would join."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from orca_plugins.exporters.token_columns import (
    DROPPED,
    ROW_GROUP,
    attended,
    configs_of,
    file_of,
    labels_of_longer,
    sizes_category,
    watched,
    write_parquet,
)
from orca_recipes.contract.exporter import BuildToExport, Exporter, RowBlock, Shards, ShardToExport, Written

if TYPE_CHECKING:
    import pyarrow as pa

_SETTINGS = """\
## axolotl

```yaml
datasets:
{datasets}
sequence_len: {row_tokens}
sample_packing: true
attn_implementation: flash_attention_2
```

Give the path of this folder in place of `./`. `type` is left empty: axolotl takes the columns `input_ids`,
`attention_mask` and `labels` for tokenized and applies no template; it packs by itself under `sample_packing`.

- axolotl keeps what it prepared by the text of the configuration, not by the data: after another export into the same
  folder, remove `dataset_prepared_path`;
- a smaller `sequence_len` than {longest} drops examples, whole;
- without an `attn_implementation` the examples that are packed together see each other, which axolotl only warns of.
"""
_DEFAULT_SEQUENCE_LEN = 512
"""axolotl's `sequence_len`, where nobody sets it."""
_SHORT = f"`sequence_len` left at axolotl's {_DEFAULT_SEQUENCE_LEN}"
_SEEING = "`attn_implementation` left out"
_SEEN = "examples that see the one before, if they are packed as the build's rows are"


class Axolotl(Exporter):
    """Write Parquet of `input_ids`, `attention_mask` and `labels` for axolotl, a line an example.

    kind = "axolotl"
    """

    revision: ClassVar[int] = 3
    title: ClassVar[str] = "axolotl"
    kind: Literal["axolotl"] = "axolotl"

    def write(self, *, build: BuildToExport, shard: ShardToExport, folder: Path) -> Written:
        import pyarrow as pa

        written = Written()

        def lines(block: RowBlock) -> Mapping[str, pa.Array[Any]]:
            written.risk(_SHORT, DROPPED, labels_of_longer(block, _DEFAULT_SEQUENCE_LEN))
            written.risk(_SEEING, _SEEN, block.segments.examples - block.segments.rows)
            return attended(block)

        ids = pa.list_(pa.int32())
        schema = pa.schema({"input_ids": ids, "attention_mask": pa.list_(pa.int8()), "labels": ids})
        path = folder / shard.dataset.name / file_of(shard, ".parquet")
        write_parquet(path, schema, map(lines, watched(shard, written)), rows=ROW_GROUP)
        return written

    def settings(self, *, build: BuildToExport, shards: Shards) -> str:
        lines = (f"  - path: ./{name}\n    ds_type: parquet\n    type:" for name in shards)
        return _SETTINGS.format(datasets="\n".join(lines), row_tokens=build.row_tokens, longest=build.longest_example)

    def card(self, *, build: BuildToExport) -> Mapping[str, Any]:
        return {"configs": configs_of(build, "train-*.parquet"), "size_categories": [sizes_category(build)]}
