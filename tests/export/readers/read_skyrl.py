"""Print the examples that SkyRL loads of an export, by the paths of its README.md.

python read_skyrl.py
"""

import json
import re
from pathlib import Path

import yaml
from standing_in import bare

bare("skyrl", "skyrl.train", "skyrl.train.dataset")

from skyrl.train.dataset.pretokenized import load_from_pretokenized  # noqa: E402

(block,) = re.findall(r"```yaml\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
settings = yaml.safe_load(block)
told = []
for path in settings["pretokenized_dataset_paths"]:
    for line in load_from_pretokenized(path, max_length=settings["max_length"]):
        ids = list(line["input_ids"])
        window = [0] * (len(ids) - line["num_actions"]) + list(line["loss_mask"])
        told.append((ids, [token if carries else -100 for token, carries in zip(ids, window, strict=True)]))
print(json.dumps(told))
