"""Tokens and label masks as OLMo-core reads them: raw arrays, and the bounds of examples beside them.

Despite their name the `.npy` files have no header: OLMo-core maps them as they are.
"""

from __future__ import annotations

import gzip
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from orca_plugins.exporters.token_columns import labels_past, others, watched
from orca_recipes.contract.exporter import BuildToExport, Exporter, RowBlock, Shards, ShardToExport, Written

# uint16 holds every id of a vocabulary up to this size.
_WIDEST_NARROW = 1 << 16

_SETTINGS = """\
## OLMo-core

```python
NumpyPackedFSLDatasetConfig(
    paths=sorted(glob("{dataset}/token_ids_part_*.npy")),
    label_mask_paths=sorted(glob("{dataset}/labels_mask_part_*.npy")),
    sequence_length={row_tokens},
    dtype=NumpyDatasetDType.{dtype},
    generate_doc_lengths=True,
    use_array_if_local=False,
    tokenizer=TokenizerConfig(vocab_size={vocabulary}, eos_token_id={eos_id}, pad_token_id={pad_id}),
)
```

Paths are relative to this folder{others}.

- **`use_array_if_local=False` is needed.** By default OLMo-core looks for the end-of-text token on local disks: every
  turn that ends with it is taken for a document, questions are cut from their answers, and labels and loss look alike.
- OLMo-core packs the examples itself. The masks are of the tokens themselves, not shifted, and the first token of an
  example is never a label.
- `dtype` is what the arrays were written as; the smallest type that OLMo-core would choose by itself may be another.
"""


_SCANS = "`use_array_if_local` left at its default"


class Olmo(Exporter):
    """Write raw arrays for OLMo-core: `token_ids_part_*.npy`, `labels_mask_part_*.npy` and `.csv.gz` with bounds.

    kind = "olmo"
    """

    title: ClassVar[str] = "OLMo-core"
    kind: Literal["olmo"] = "olmo"

    def write(self, *, build: BuildToExport, shard: ShardToExport, folder: Path) -> Written:
        written = Written()
        place = folder / shard.dataset.name
        place.mkdir(exist_ok=True)
        part = f"part_{shard.number:04d}"
        with ExitStack() as files:
            tokens = files.enter_context((place / f"token_ids_{part}.npy").open("wb"))
            masks = files.enter_context((place / f"labels_mask_{part}.npy").open("wb"))
            packed = files.enter_context((place / f"token_ids_{part}.csv.gz").open("wb"))
            # Without name and time, which gzip would write: the same bytes each time.
            bounds = files.enter_context(gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0))
            for block in watched(shard, written):
                _count_cuts(block, _eos_id(build), written)
                first = written.tokens - len(block.tokens)
                tokens.write(np.ascontiguousarray(block.tokens, dtype=_dtype(build)).data)
                masks.write(np.ascontiguousarray(block.labelled).data)
                ends = (block.example_bounds + first).tolist()
                lines = (f"{start},{stop}\n" for start, stop in pairwise(ends))
                bounds.write("".join(lines).encode())
        return written

    def settings(self, *, build: BuildToExport, shards: Shards) -> str:
        return _SETTINGS.format(
            dataset=build.datasets[0].name,
            others=others(build),
            row_tokens=build.row_tokens,
            dtype=_dtype(build).name,
            vocabulary=build.vocabulary_size,
            eos_id=_eos_id(build),
            pad_id=build.pad_id,
        )


def _eos_id(build: BuildToExport) -> int:
    return build.terminators[0][-1] if build.eos_id is None else build.eos_id


def _count_cuts(block: RowBlock, eos_id: int, written: Written) -> None:
    """Count the risk of a scan for the end-of-text token: a document ends at each, even within an example."""
    bounds = block.example_bounds
    ends = np.flatnonzero(block.tokens == eos_id)
    last = int(np.count_nonzero(block.tokens[bounds[1:] - 1] == eos_id))
    written.risk(_SCANS, "cuts within examples", len(ends) - last)
    first = np.append(ends, bounds[-1])[np.searchsorted(ends, bounds[:-1])]
    cut = labels_past(block, bounds, np.minimum(first + 1, bounds[1:]) - bounds[:-1])
    written.risk(_SCANS, "labels cut from what they answer", int(cut.sum()))


def _dtype(build: BuildToExport) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
    return np.dtype("<u2") if build.vocabulary_size <= _WIDEST_NARROW else np.dtype("<u4")
