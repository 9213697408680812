"""Print the examples of an export with the labels that LLaMA-Factory's `stage: pt` gives them.

python read_llamafactory_pretraining.py
"""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import yaml
from standing_in import absent, bare
from transformers import AutoTokenizer, DataCollatorForLanguageModeling

absent("peft", "peft.utils", "llamafactory.data.processor", "llamafactory.data.template")
bare("llamafactory", "llamafactory.data")

from llamafactory.data.loader import get_dataset  # noqa: E402

# Its workflow imports every trainer; what it does with tokenized data is this line.
workflow = Path(sys.modules["llamafactory"].__path__[0]) / "train" / "pt" / "workflow.py"
assert "data_collator = DataCollatorForLanguageModeling(tokenizer=tokenizer, mlm=False)" in workflow.read_text()

(block,) = re.findall(r"```yaml\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
asked = SimpleNamespace(tokenized_path=yaml.safe_load(block)["tokenized_path"], streaming=False)
dataset = get_dataset(None, None, asked, None, "pt", None)["train_dataset"]
collator = DataCollatorForLanguageModeling(tokenizer=AutoTokenizer.from_pretrained("tokenizer"), mlm=False)
told = []
for line in dataset:
    batch = collator([{name: line[name] for name in ("input_ids", "attention_mask")}])
    told.append((batch["input_ids"][0].tolist(), batch["labels"][0].tolist()))
print(json.dumps(told))
