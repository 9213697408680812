"""Examples as documents that Megatron's `--data-path` may read.

A build's own pairs hold segments, and fail such readers on purpose; here a sequence is one whole example and there are
no modes, so that nothing is shuffled apart. Such a reader knows of no loss mask: it trains on every token.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from orca_plugins.exporters.token_columns import TRAINED_TOO, watched
from orca_recipes.contract.exporter import BuildToExport, Exporter, Shards, ShardToExport, Written
from orca_recipes.shards.layout import DTYPES, HEADER, MAGIC, VERSION, index_path, token_dtype, tokens_path

_SETTINGS = """\
## Megatron-LM, NeMo: `--data-path`

```
--data-path {paths} --split 1,0,0 --seq-length {row_tokens}
```

One document is one example, whole. **Loss is on every token**, the question's too, as in pretraining: of {tokens:,}
tokens the build trains {trained:,}. Use `--to bridge` or `--to hf` where answers alone are to be trained.

- documents are laid end to end and cut every `seq-length` tokens: examples see each other unless
  `--reset-position-ids --reset-attention-mask` find their ends, which they do by the end-of-text token alone;
- `--eod-mask-loss` takes the loss off end-of-text tokens.
"""


class MegatronDocuments(Exporter):
    """Write a pair for Megatron's `--data-path` and `GPTDataset`, one document an example, loss on every token.

    kind = "megatron-documents"
    """

    revision: ClassVar[int] = 2
    title: ClassVar[str] = "Megatron's pretraining"
    kind: Literal["megatron-documents"] = "megatron-documents"

    def write(self, *, build: BuildToExport, shard: ShardToExport, folder: Path) -> Written:
        written = Written()
        prefix = folder / shard.dataset.name / f"{shard.number:05d}"
        prefix.parent.mkdir(exist_ok=True)
        dtype = token_dtype(build.vocabulary_size)
        found = [np.zeros(0, dtype=np.int64)]
        with tokens_path(prefix).open("wb") as file:
            for block in watched(shard, written):
                # An example's first token too: it is asked for after the last one of the document before.
                written.risk("whatever is set", TRAINED_TOO, len(block.tokens) - int(np.count_nonzero(block.labelled)))
                file.write(np.ascontiguousarray(block.tokens, dtype=dtype).data)
                found.append(block.segments.example_tokens)
        lengths = np.concatenate(found)
        ends = np.cumsum(lengths) * dtype.itemsize
        code = next(code for code, known in DTYPES.items() if known == dtype)
        with index_path(prefix).open("wb") as file:
            file.write(HEADER.pack(MAGIC, VERSION, code, len(lengths), len(lengths) + 1))
            file.write(lengths.astype("<i4").data)
            file.write((ends - lengths * dtype.itemsize).astype("<i8").data)
            file.write(np.arange(len(lengths) + 1, dtype="<i8").data)
        return written

    def settings(self, *, build: BuildToExport, shards: Shards) -> str:
        paths = [f"{name}/{number:05d}" for name, every in shards.items() for number in range(len(every))]
        return _SETTINGS.format(
            paths=" ".join(paths),
            row_tokens=build.row_tokens,
            tokens=sum(dataset.tokens for dataset in build.datasets),
            trained=sum(dataset.trained_tokens for dataset in build.datasets),
        )
