"""transformers + TRL with its packing and flash attention: `python trl_train.py EXAMPLES.parquet MODEL SETTINGS.json`.

MODEL is a folder with config.json and a tokenizer; weights are drawn. Its best settings here: bfloat16 beside float32
weights, fused AdamW, no recomputation, whole examples packed by bfd and run without padding. The last line is
the result: when each step ended, and of each step the target tokens and the lengths of its examples.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

ATTENTION = "flash_attention_2"


class Witness(SFTTrainer):
    """Keeps what each micro-batch held, on the GPU, so that looking at it costs no step anything."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def training_step(self, model: Any, inputs: dict[str, torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
        self.seen.append(((inputs["labels"] >= 0).sum(), inputs["position_ids"][0]))
        return super().training_step(model, inputs, *args, **kwargs)


class Clock(TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def main() -> None:
    examples, folder, settings = sys.argv[1], sys.argv[2], json.loads(Path(sys.argv[3]).read_text())
    config = AutoConfig.from_pretrained(folder)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=ATTENTION, dtype=torch.float32)
    clock = Clock()
    trainer = Witness(
        model=model,
        args=_config(settings),
        train_dataset=Dataset.from_parquet(examples),
        processing_class=AutoTokenizer.from_pretrained(folder),
        callbacks=[clock],
    )
    trainer.train()
    micro = settings["batch_rows"] // settings["micro_batch_rows"]
    steps = [trainer.seen[at : at + micro] for at in range(0, len(trainer.seen), micro)]
    told = {
        "ends": clock.ends,
        "target_tokens": [sum(int(count) for count, _ in step) for step in steps],
        "lengths": [[length for _, positions in step for length in _lengths(positions)] for step in steps],
    }
    print(json.dumps(told))


def _config(settings: dict[str, Any]) -> SFTConfig:
    return SFTConfig(
        output_dir=settings["out"],
        max_steps=settings["steps"],
        per_device_train_batch_size=settings["micro_batch_rows"],
        gradient_accumulation_steps=settings["batch_rows"] // settings["micro_batch_rows"],
        learning_rate=settings["learning_rate"],
        lr_scheduler_type="constant",
        max_length=settings["row_tokens"],
        packing=True,
        packing_strategy="bfd",
        bf16=True,
        gradient_checkpointing=False,
        optim="adamw_torch_fused",
        adam_beta2=0.95,
        report_to="none",
        save_strategy="no",
        logging_steps=10,
        disable_tqdm=True,
    )


def _lengths(positions: torch.Tensor) -> list[int]:
    """Of the examples of a micro-batch, laid end to end: each begins at position 0."""
    starts = torch.nonzero(positions == 0).flatten().tolist()
    return [end - start for start, end in zip(starts, [*starts[1:], len(positions)], strict=True)]


if __name__ == "__main__":
    main()
