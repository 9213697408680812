"""Print how many prompts of an export SkyRL and verl keep, where none may have more tokens, and their defaults.

python read_rl_prompts.py TOKENS FILE...
"""

import inspect
import json
import re
import sys
from pathlib import Path

import datasets  # noqa: F401 - both before PIL is stood in for: they look whether that is there
import yaml
from standing_in import absent, bare
from transformers import AutoTokenizer, ProcessorMixin  # noqa: F401

absent("omegaconf", "PIL", "PIL.Image")
bare("skyrl", "skyrl.train", "skyrl.train.dataset", "verl", "verl.utils", "verl.utils.dataset")
absent("verl.utils.import_utils", "verl.utils.fs")
sys.modules["verl.utils.fs"].copy_to_local = lambda src, **_: src  # as it does with files of this machine

from skyrl.train.dataset.dataset import PromptDataset  # noqa: E402
from verl.utils.dataset.rl_dataset import RLHFDataset  # noqa: E402

tokens, files = int(sys.argv[1]), sys.argv[2:]
tokenizer = AutoTokenizer.from_pretrained("tokenizer")
by_skyrl = PromptDataset(files, tokenizer, max_prompt_length=tokens, num_workers=1)
settings = {"filter_overlong_prompts": True, "max_prompt_length": tokens, "filter_overlong_prompts_workers": 1}
by_verl = RLHFDataset(files, tokenizer, settings)

place = Path(sys.modules["verl"].__path__[0]) / "trainer" / "config" / "data" / "legacy_data.yaml"
of_verl = yaml.safe_load(place.read_text())
config = Path(inspect.getfile(PromptDataset)).parents[1] / "config" / "config.py"
(of_skyrl,) = re.findall(r"\n    max_prompt_length: int = (\d+)", config.read_text())
print(
    json.dumps(
        {
            "skyrl": len(by_skyrl.dataframe),
            "verl": len(by_verl),
            "defaults": [int(of_skyrl), of_verl["max_prompt_length"], of_verl["max_response_length"]],
            "verl filters": of_verl["filter_overlong_prompts"],
        }
    )
)
