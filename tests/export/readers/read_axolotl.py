"""Print the examples of an export that axolotl takes for tokenized, as its packing collator joins them.

python read_axolotl.py CACHE
"""

import json
import re
import sys
from pathlib import Path

import yaml
from datasets import load_dataset
from standing_in import absent, bare
from transformers import AutoTokenizer

absent("axolotl.datasets", "axolotl.prompt_strategies", "axolotl.prompt_strategies.bradley_terry")
absent("axolotl.prompt_tokenizers", "axolotl.prompters", "axolotl.utils.dict", "axolotl.utils.logging")
bare("axolotl", "axolotl.utils", "axolotl.utils.data", "axolotl.utils.collators")

from axolotl.utils.collators.batching import V2BatchSamplerDataCollatorForSeq2Seq  # noqa: E402
from axolotl.utils.data.wrappers import _is_dataset_already_tokenized  # noqa: E402

(block,) = re.findall(r"```yaml\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
settings = yaml.safe_load(block)
collator = V2BatchSamplerDataCollatorForSeq2Seq(AutoTokenizer.from_pretrained("tokenizer"))
told = []
for part in settings["datasets"]:
    assert part["type"] is None
    files = [str(path) for path in sorted(Path(part["path"]).glob("*.parquet"))]
    dataset = load_dataset(part["ds_type"], data_files=files, split="train", cache_dir=sys.argv[1])
    assert _is_dataset_already_tokenized(dataset)
    for start in range(0, len(dataset), 4):
        pack = [dict(dataset[at]) for at in range(start, min(start + 4, len(dataset)))]
        lengths = [len(line["input_ids"]) for line in pack]
        batch = collator([pack])
        ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
        for length in lengths:
            told.append((ids[:length], labels[:length]))
            ids, labels = ids[length:], labels[length:]
print(json.dumps(told))
