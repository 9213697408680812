"""Print the examples that LLaMA-Factory loads of an export, by the `tokenized_path` of its README.md.

python read_llamafactory.py
"""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import yaml
from standing_in import absent, bare

absent("peft", "peft.utils", "llamafactory.data.processor", "llamafactory.data.template")
bare("llamafactory", "llamafactory.data")

from llamafactory.data.loader import get_dataset  # noqa: E402

(block,) = re.findall(r"```yaml\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
asked = SimpleNamespace(tokenized_path=yaml.safe_load(block)["tokenized_path"], streaming=False)
dataset = get_dataset(None, None, asked, None, "sft", None)["train_dataset"]
assert dataset.column_names == ["input_ids", "attention_mask", "labels"], dataset.column_names
assert all(set(line["attention_mask"]) == {1} for line in dataset)
print(json.dumps([(line["input_ids"], line["labels"]) for line in dataset]), file=sys.stdout)
