"""LlamaFactory's preprocessing of chat data: template, mask, tokens, packed rows, kept on disk for training.

Its best settings here: two processes, neat packing. Run by the bench with the peers' interpreter:
`python llamafactory_packed.py CORPUS TOKENIZER OUT ROW_TOKENS`; the last line says what came out.
"""

import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from datasets import load_from_disk

PROCESSES = 2
COLUMNS = {
    "formatting": "sharegpt",
    "columns": {"messages": "messages"},
    "tags": {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
        "system_tag": "system",
        "observation_tag": "tool",
    },
}


def main() -> None:
    corpus, folder, out, row_tokens = sys.argv[1:]
    _do_without_sound()
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments, ModelArguments, TrainingArguments
    from transformers import AutoTokenizer

    Path(out, "dataset_info.json").write_text(json.dumps({"chat": {"file_name": corpus, **COLUMNS}}), encoding="utf-8")
    model = ModelArguments(model_name_or_path=folder, cache_dir=f"{out}/cache")
    data = DataArguments(
        template="chatml",
        dataset="chat",
        dataset_dir=out,
        cutoff_len=int(row_tokens),
        preprocessing_num_workers=PROCESSES,
        packing=True,
        neat_packing=True,
        tokenized_path=f"{out}/packed",
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    template = get_template_and_fix_tokenizer(tokenizer, data)
    arguments = TrainingArguments(output_dir=f"{out}/training", use_cpu=True)
    get_dataset(template, model, data, arguments, stage="sft", tokenizer=tokenizer)
    print(json.dumps(_counts(load_from_disk(f"{out}/packed")["train"])))


def _do_without_sound() -> None:
    """It imports torchaudio for rows with sound, which there are none of; the registry's build of it wants CUDA."""
    silent = ModuleType("torchaudio")
    silent.__spec__ = ModuleSpec("torchaudio", None)
    sys.modules["torchaudio"] = silent


def _counts(packed: Any) -> dict[str, int]:
    tokens = trained = 0
    for batch in packed.select_columns(["attention_mask", "labels"]).with_format("numpy").iter(batch_size=1000):
        tokens += int(np.count_nonzero(np.stack(batch["attention_mask"])))
        trained += int(np.count_nonzero(np.stack(batch["labels"]) != -100))
    return {"tokens": tokens, "rows": len(packed), "trained": trained}


if __name__ == "__main__":
    main()
