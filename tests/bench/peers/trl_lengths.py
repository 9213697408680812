"""TRL's bfd packing of given lengths: `python trl_lengths.py LENGTHS.npy ROW_TOKENS`; its last line is the result."""

import json
import sys
import time

import numpy as np
import pyarrow as pa
from datasets import Dataset
from trl import pack_dataset


def main() -> None:
    lengths = np.load(sys.argv[1])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.zeros(offsets[-1], dtype=np.int8)))
    dataset = Dataset(pa.table({"input_ids": ids}))
    # One batch holds everything, as ours does: by default TRL packs each thousand by itself. Tokens are a byte each and
    # stay in memory, so that as little as can be of its time is copying.
    settings = {"batch_size": len(lengths), "writer_batch_size": len(lengths), "keep_in_memory": True}
    started = time.perf_counter()
    packed = pack_dataset(dataset, seq_length=int(sys.argv[2]), strategy="bfd", map_kwargs=settings)
    print(json.dumps({"seconds": time.perf_counter() - started, "rows": len(packed)}))


if __name__ == "__main__":
    main()
