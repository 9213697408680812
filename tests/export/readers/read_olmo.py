"""Print the examples that OLMo-core makes of an export, by the very configuration of its README.md, run in its folder.

python read_olmo.py WORK [AGAIN]: AGAIN also reads them with `use_array_if_local=True`, which nobody should set.
"""

import json
import re
import sys
from glob import glob
from pathlib import Path

import numpy as np
import torch
from standing_in import absent, bare

absent("cached_path", "cached_path.schemes", "requests", "requests.adapters", "requests.exceptions")
bare("olmo_core", "olmo_core.data")
sys.modules["cached_path"].cached_path = lambda path, **_: Path(path)  # as it does for files of this machine

from olmo_core.data.numpy_dataset import NumpyPackedFSLDatasetConfig  # noqa: E402
from olmo_core.data.tokenizer import TokenizerConfig  # noqa: E402
from olmo_core.data.types import NumpyDatasetDType  # noqa: E402
from olmo_core.data.utils import get_labels  # noqa: E402

(code,) = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
known = {"NumpyPackedFSLDatasetConfig": NumpyPackedFSLDatasetConfig, "TokenizerConfig": TokenizerConfig}


def read(code: str, work: str) -> list[tuple[list[int], list[int], int]]:
    config = eval(code, {**known, "NumpyDatasetDType": NumpyDatasetDType, "glob": glob})
    config.work_dir = work
    dataset = config.build()
    dataset.prepare()
    found = []
    for number in range(len(dataset)):
        item = dataset[number]
        labels = get_labels({name: item[name][None] for name in ("input_ids", "label_mask")})[0].tolist()
        ids = item["input_ids"].to(torch.int64).tolist()
        ends = np.cumsum(item["doc_lens"].numpy()).tolist()
        for start, stop in zip([0, *ends], ends, strict=False):
            # Its labels are shifted: the one at a place is of the token after it, and an example's last place has none.
            found.append((ids[start:stop], [-100, *labels[start : stop - 1]], labels[stop - 1]))
    return found


codes = (code, code.replace("use_array_if_local=False", "use_array_if_local=True"))
print(json.dumps([read(one, work) for one, work in zip(codes, sys.argv[1:], strict=False)]))
