"""Print the prompts, sources and references that verl's RL dataset finds in an export, file by file.

python read_verl.py FILE...
"""

import json
import sys

import datasets  # noqa: F401 - both before PIL is stood in for: they look whether that is there
from standing_in import absent, bare
from transformers import AutoTokenizer, ProcessorMixin  # noqa: F401

absent("omegaconf", "PIL", "PIL.Image")
bare("verl", "verl.utils", "verl.utils.dataset")
absent("verl.utils.import_utils", "verl.utils.tokenizer", "verl.utils.fs")
sys.modules["verl.utils.fs"].copy_to_local = lambda src, **_: src  # as it does with files of this machine

from verl.utils.dataset.rl_dataset import RLHFDataset  # noqa: E402

dataset = RLHFDataset(sys.argv[1:], AutoTokenizer.from_pretrained("tokenizer"), {"filter_overlong_prompts": False})
lines = [dataset[at] for at in range(len(dataset))]
print(json.dumps([(one["raw_prompt"], one["data_source"], one["reward_model"]["ground_truth"]) for one in lines]))
