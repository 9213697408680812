"""Train a small model by TRL on an export, by the very settings of its README.md, run in its folder.

python read_trl.py WORK STEPS

Prints all batches of its data loader, the batches that the steps of its training were given, and their losses.
"""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

work, steps = Path(sys.argv[1]), int(sys.argv[2])
# Before `datasets` is imported, which reads it then.
os.environ["HF_DATASETS_CACHE"] = str(work / "cache")

import torch  # noqa: E402
import trl  # noqa: E402
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM  # noqa: E402

told: dict[str, Any] = {}
config = trl.SFTConfig
trl.SFTConfig = told.update
(code,) = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
names: dict[str, Any] = {}
exec(code, names)
plain = {"report_to": "none", "use_cpu": True, "bf16": False, "save_strategy": "no", "logging_steps": 1}
args = config(output_dir=str(work / "run"), per_device_train_batch_size=2, max_steps=steps, **plain, **told)

torch.manual_seed(0)
sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
model = LlamaForCausalLM(LlamaConfig(vocab_size=4096, **sizes))
tokenizer = AutoTokenizer.from_pretrained("tokenizer")
trainer = names["SFTTrainer"](model=model, args=args, train_dataset=names["dataset"], processing_class=tokenizer)


def as_lists(batch: Any) -> dict[str, Any]:
    return {name: batch[name].tolist() for name in ("input_ids", "labels", "position_ids")}


loaded = [as_lists(batch) for batch in trainer.get_train_dataloader()]
given = []
step = trainer.training_step


def watched(model: Any, inputs: Any, *more: Any) -> Any:
    given.append(as_lists(inputs))
    return step(model, inputs, *more)


trainer.training_step = watched
if steps:
    trainer.train()
losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
print(json.dumps({"loaded": loaded, "given": given, "losses": losses}))
