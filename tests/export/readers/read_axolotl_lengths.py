"""Print how many labels axolotl leaves of an export where `sequence_len` is this one, and what it is by default.

python read_axolotl_lengths.py CACHE SEQUENCE_LEN
"""

import json
import logging
import re
import sys
from pathlib import Path
from types import SimpleNamespace

from datasets import load_dataset
from standing_in import absent, bare

bare("axolotl")
schema = Path(sys.modules["axolotl"].__path__[0]) / "utils" / "schemas" / "config.py"
(default,) = re.findall(r"\n    sequence_len: int = Field\(\s*default=(\d+)", schema.read_text())
absent("axolotl.utils.logging", "axolotl.utils.dict", "axolotl.utils.distributed", "axolotl.utils.environment")
absent("requests")
sys.modules["axolotl.utils.logging"].get_logger = logging.getLogger
bare("axolotl.utils", "axolotl.utils.data", "axolotl.utils.samplers")

from axolotl.utils.samplers.utils import get_dataset_lengths  # noqa: E402

# Its package imports kernels for packing too.
vars(sys.modules["axolotl.utils.samplers"]).update(MultipackBatchSampler=None, get_dataset_lengths=get_dataset_lengths)

from axolotl.utils.data.utils import handle_long_seq_in_dataset  # noqa: E402

files = [str(path) for path in sorted(Path().rglob("train-*.parquet"))]
dataset = load_dataset("parquet", data_files=files, split="train", cache_dir=sys.argv[1])
cfg = SimpleNamespace(excess_length_strategy=None, min_sample_len=None, dataset_num_proc=None, is_preprocess=True)
left = handle_long_seq_in_dataset(dataset, int(sys.argv[2]), cfg)
labels = sum(label >= 0 for line in left["labels"] for label in line)
print(json.dumps({"default": int(default), "labels": labels}))
