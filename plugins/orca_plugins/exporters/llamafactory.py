"""Examples as LLaMA-Factory loads them from `tokenized_path`: a `DatasetDict` as `save_to_disk` lays it out.

The layout is Arrow streams with three small JSON files beside them; nothing of it needs `datasets` to be written.
Features are left out of the JSON: every version of `datasets` reads them from the streams, and their spelling changed
between versions.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from orca_plugins.exporters.token_columns import TRAINED_TOO, attended, others, watched
from orca_recipes.contract.exporter import BuildToExport, Exporter, RowBlock, Shards, ShardToExport, Written

_SETTINGS = """\
## LLaMA-Factory

```yaml
stage: sft
tokenized_path: {dataset}
```

Give the path inside this folder{others}. Loading tokenized data ignores every other data argument, `template` and
`cutoff_len` among them, and says so in one log line.

- Nothing packs at load: batches are padded to their longest example ({longest} tokens here). `packing` and
  `neat_packing` have no effect on tokenized data, but that under FlashAttention 2 the latter ends the training where a
  batch has more than one example.
- `model_name_or_path` must be of the tokenizer in `tokenizer/`: its pad token fills batches.
- `stage: pt` makes labels anew, of every token but the pad token, and reads none of these;
- `ignore_pad_token_for_loss: false` trains the pads of batches.
"""
_PRETRAINS = "`stage: pt`"
_LOST = "labels lost, which are the pad token"


class LlamaFactory(Exporter):
    """Write a `DatasetDict` on disk for LLaMA-Factory's `tokenized_path`: `input_ids`, `attention_mask`, `labels`.

    kind = "llamafactory"
    """

    revision: ClassVar[int] = 2
    title: ClassVar[str] = "LLaMA-Factory"
    kind: Literal["llamafactory"] = "llamafactory"

    def write(self, *, build: BuildToExport, shard: ShardToExport, folder: Path) -> Written:
        import pyarrow as pa

        written = Written(notes={"file": f"data-{shard.number:05d}-of-{shard.dataset.shards:05d}.arrow"})
        ids = pa.list_(pa.int32())
        schema = pa.schema({"input_ids": ids, "attention_mask": pa.list_(pa.int8()), "labels": ids})
        place = folder / shard.dataset.name / "train"
        place.mkdir(parents=True, exist_ok=True)
        with (place / written.notes["file"]).open("wb") as file, pa.ipc.new_stream(file, schema) as stream:
            for block in watched(shard, written):
                _count(block, build.pad_id, written)
                stream.write_batch(pa.record_batch(dict(attended(block)), schema=schema))
        return written

    def finish(self, *, build: BuildToExport, shards: Shards, folder: Path) -> None:
        for name, every in shards.items():
            place = folder / name
            # It names the data in caches of `datasets`: of other data it must be another.
            fingerprint = hashlib.blake2b(f"{build.digest} {name} {self.kind}".encode(), digest_size=8).hexdigest()
            state: dict[str, Any] = {
                "_data_files": [{"filename": written.notes["file"]} for written in every],
                "_fingerprint": fingerprint,
                "_format_columns": None,
                "_format_kwargs": {},
                "_format_type": None,
                "_output_all_columns": False,
                "_split": "train",
            }
            _write(place / "train" / "state.json", state)
            info = {"citation": "", "description": "", "features": None, "homepage": "", "license": ""}
            _write(place / "train" / "dataset_info.json", info)
            _write(place / "dataset_dict.json", {"splits": ["train"]})

    def settings(self, *, build: BuildToExport, shards: Shards) -> str:
        return _SETTINGS.format(dataset=build.datasets[0].name, others=others(build), longest=build.longest_example)


def _count(block: RowBlock, pad_id: int, written: Written) -> None:
    """Count what pretraining would do: transformers' collator takes each token for its label unless it is a pad."""
    pads = block.tokens == pad_id
    first = np.zeros(len(pads), dtype=bool)
    first[block.example_bounds[:-1]] = True
    written.risk(_PRETRAINS, TRAINED_TOO, int(np.count_nonzero(~block.labelled & ~first & ~pads)))
    written.risk(_PRETRAINS, _LOST, int(np.count_nonzero(block.labelled & pads)))


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
