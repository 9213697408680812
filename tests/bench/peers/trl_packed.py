"""datasets.map + apply_chat_template with the assistant mask + TRL's bfd packing: template, mask, tokens, rows.

Its best settings here: batches through the fast tokenizer, two processes, Arrow from end to end. Run by the bench with
the peers' interpreter: `python trl_packed.py CORPUS TOKENIZER OUT ROW_TOKENS`; the last line says what came out.
"""

import json
import sys
from typing import Any

from datasets import load_dataset
from transformers import AutoTokenizer
from trl import pack_dataset

PROCESSES = 2
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}"
    "{% if message.role == 'assistant' %}"
    "{% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ message.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
)


def main() -> None:
    corpus, folder, out, row_tokens = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHATML

    def tokenized(batch: dict[str, list[Any]]) -> dict[str, list[list[int]]]:
        rendered: Any = tokenizer.apply_chat_template(
            batch["messages"], tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        return {"input_ids": rendered["input_ids"], "assistant_masks": rendered["assistant_masks"]}

    rows = load_dataset("json", data_files=corpus, split="train", cache_dir=f"{out}/cache")
    rows = rows.map(tokenized, batched=True, num_proc=PROCESSES, remove_columns=rows.column_names)
    packed = pack_dataset(rows, seq_length=int(row_tokens), strategy="bfd", map_kwargs={"num_proc": PROCESSES})
    packed.save_to_disk(f"{out}/packed")
    lengths = [len(ids) for batch in packed.iter(batch_size=1000) for ids in batch["input_ids"]]
    trained = sum(sum(mask) for batch in packed.iter(batch_size=1000) for mask in batch["assistant_masks"])
    said = {"tokens": sum(lengths), "rows": len(lengths), "trained": trained}
    print(json.dumps(said))


if __name__ == "__main__":
    main()
