"""Packed rows as Megatron-Bridge and NeMo read them.

Their loss mask is aligned to labels: the mask of a place says whether the token after it is trained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from orca_plugins.exporters.token_columns import TRAINED_TOO, ids_of, others, watched, write_parquet
from orca_recipes.contract.exporter import (
    BuildToExport,
    Exporter,
    RowBlock,
    Shards,
    ShardToExport,
    Written,
    list_of,
)
from orca_recipes.errors import ExportError

if TYPE_CHECKING:
    import pyarrow as pa

AFTER_END = "Megatron-Bridge takes the loss off wherever the token before is the tokenizer's end of text"

_SETTINGS = """\
## Megatron-Bridge

```python
GPTSFTDatasetConfig(
    dataset_root="{dataset}",
    seq_length={row_tokens},
    enable_offline_packing=True,
    offline_packing_specs=PackedSequenceSpecs(
        packed_sequence_size={row_tokens},
        packed_train_data_path="{dataset}/*.idx.parquet",
        packed_metadata_path="metadata/{dataset}.json",
        tokenizer_model_name="tokenizer",
    ),
    do_validation=False,
    do_test=False,
)
```

Paths are relative to this folder{others}. Train with a micro batch of 1, and leave the rest as it is:

- `answer_only_loss=False` ignores the mask: every token is trained;
- another tokenizer than `tokenizer/` takes another token for the end of text (here {eos_id}), before which it masks;
- context parallelism needs examples padded to a multiple (`pad_seq_to_mult`), which these are not;
- the folder of a dataset holds its Parquet and nothing else: the reader takes every other Parquet there for rows.
"""


class Bridge(Exporter):
    """Write packed Parquet for Megatron-Bridge and NeMo: `input_ids`, `loss_mask`, `seq_start_id`, a line a row.

    kind = "bridge"
    row_group_rows = 100
    """

    revision: ClassVar[int] = 2
    title: ClassVar[str] = "Megatron-Bridge"
    kind: Literal["bridge"] = "bridge"
    row_group_rows: Annotated[
        int, Field(gt=0, description="rows of a group: the reader decodes a whole group for each row it draws")
    ] = 100

    def refuse(self, *, build: BuildToExport) -> None:
        if build.eos_id is None:
            raise ExportError(
                f"{build.directory}: Megatron-Bridge pads rows with the tokenizer's end of text, and this tokenizer "
                "names none; name one as eos_token in its tokenizer_config.json, and build again"
            )

    def write(self, *, build: BuildToExport, shard: ShardToExport, folder: Path) -> Written:
        import pyarrow as pa

        written = Written(notes={"longest": 0, "most": 0, "shortest": build.row_tokens, "places": 0, "rows": 0})
        ids, mask = pa.list_(pa.int32()), pa.list_(pa.int8())
        schema = pa.schema({"input_ids": ids, "loss_mask": mask, "seq_start_id": ids})

        def lines(block: RowBlock) -> Mapping[str, pa.Array[Any]]:
            # Megatron-Bridge takes the mask by the token that predicts, ours stands at the token that is predicted.
            shifted = np.append(block.labelled[1:], False)
            written.lose(AFTER_END, taken := int(np.count_nonzero(shifted & (block.tokens == build.eos_id))))
            written.trained_labels -= taken
            # An example's last token predicts nothing.
            places = len(block.tokens) - block.segments.examples
            written.risk("`answer_only_loss=False`", TRAINED_TOO, places - int(np.count_nonzero(shifted)) + taken)
            _note(block, written.notes)
            starts = block.segments.example_places
            return {
                "input_ids": ids_of(block, block.row_bounds),
                "loss_mask": list_of(shifted, block.row_bounds, pa.int8()),
                "seq_start_id": list_of(starts, block.segments.row_examples, pa.int32()),
            }

        path = folder / shard.dataset.name / f"{shard.number:05d}.idx.parquet"
        write_parquet(path, schema, map(lines, watched(shard, written)), rows=self.row_group_rows)
        return written

    def finish(self, *, build: BuildToExport, shards: Shards, folder: Path) -> None:
        (folder / "metadata").mkdir()
        for name, every in shards.items():
            rows = sum(written.notes["rows"] for written in every)
            examples = sum(written.examples for written in every)
            places = sum(written.notes["places"] for written in every)
            told = {
                "dataset_max_seqlen": max(written.notes["longest"] for written in every),
                "max_samples_per_bin": max(written.notes["most"] for written in every),
                "packing_factor": round(examples / rows, 2),
                "packing_efficiency": round(places / rows / build.row_tokens * 100, 2),
                "pack_size": build.row_tokens,
                "min_packed_seqlen": min(written.notes["shortest"] for written in every),
            }
            (folder / "metadata" / f"{name}.json").write_text(json.dumps([told], indent=1) + "\n", encoding="utf-8")

    def settings(self, *, build: BuildToExport, shards: Shards) -> str:
        return _SETTINGS.format(
            dataset=build.datasets[0].name, others=others(build), row_tokens=build.row_tokens, eos_id=build.eos_id
        )


def _note(block: RowBlock, notes: dict[str, Any]) -> None:
    """Keep what the metadata tell of rows, in places: an example of n tokens takes n - 1."""
    segments = block.segments
    examples = np.diff(segments.row_examples)
    places = np.diff(block.row_bounds) - examples
    notes["longest"] = max(notes["longest"], int(segments.example_tokens.max()) - 1)
    notes["most"] = max(notes["most"], int(examples.max()))
    notes["shortest"] = min(notes["shortest"], int(places.min()))
    notes["places"] += int(places.sum())
    notes["rows"] += segments.rows
