#!/usr/bin/env bash
# megatron-core 0.16.1, torch 2.13.0 (CPU), numpy 2.4.6
# A .bin/.idx pair stores documents of several sequences each: here 8 examples, a question and an answer in each. The .idx
# keeps the bounds of the documents, and in a multimodal pair a mode for each sequence.
# One would guess: GPTDataset shuffles documents, as the names in it say, and keeps what one of them holds together; and it
#   refuses, or heeds, a pair with modes.
# What happens: it counts and shuffles sequences. 8 documents are 16 to it, no answer follows its question, and the loss
#   is on all tokens. With modes the same: not a word, and the same order to the last place.
# Why it matters for instruction-tuning data: a pair that keeps segments apart (what is asked, what is trained) opens as
#   pretraining data without a complaint. Write one sequence per document for this class, or read the pair by a class of
#   your own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q megatron-core==0.16.1 torch==2.13.0 numpy==2.4.6
venv/bin/python -I -W ignore - <<'PY'
import sys
from importlib.metadata import version

import numpy
import torch
from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig
from megatron.core.datasets.indexed_dataset import IndexedDataset, IndexedDatasetBuilder
from megatron.core.datasets.utils import Split

print("megatron-core", version("megatron-core"), "torch", version("torch"), "numpy", version("numpy"))


class Tokenizer:
    eod, pad, vocab_size, unique_identifiers = 0, 1, 300, {"class": "numbers"}


def written(name, modes):
    builder = IndexedDatasetBuilder(f"{name}.bin", dtype=numpy.int32, multimodal=modes)
    for example in range(8):
        tokens = torch.tensor([100 + example] * 3 + [200 + example] * 2, dtype=torch.int32)
        builder.add_document(tokens, [3, 2], [0, 1] if modes else None)
    builder.finalize(f"{name}.idx")
    return name


def opened(name):
    config = GPTDatasetConfig(
        random_seed=1, sequence_length=10, split="1,0,0", tokenizer=Tokenizer(), reset_position_ids=False,
        reset_attention_mask=False, eod_mask_loss=False, create_attention_mask=False,
    )  # fmt: skip
    pair = GPTDataset.build_low_level_dataset(name, config)
    taken = GPTDataset.numel_low_level_dataset(pair)
    return GPTDataset(pair, name, numpy.arange(taken, dtype=numpy.int32), None, Split.train, config)


orders = {}
for name, modes in (("plain", False), ("modes", True)):
    stored = IndexedDataset(written(name, modes), multimodal=modes)
    data = opened(name)
    order = orders[name] = data.document_index.tolist()
    kept = sum(first % 2 == 0 and second == first + 1 for first, second in zip(order, order[1:]))
    loss = int(sum(data[row]["loss_mask"].sum() for row in range(len(data))))
    print(f"{name}: {len(stored.document_indices) - 1} documents stored, {len(order)} taken,", end=" ")
    print(f"{kept} of 8 answers after their question, loss on {loss} of {10 * len(data)} tokens")
    if len(stored.document_indices) - 1 != 8 or len(order) != 16:
        sys.exit("No longer so: GPTDataset does not take each sequence for a document.")
    if kept or loss != 10 * len(data):
        sys.exit("No longer so: GPTDataset keeps a document together, or does not train on all of it.")
if orders["plain"] != orders["modes"]:
    sys.exit("No longer so: the modes change what GPTDataset does.")
print("SEEN: each sequence is a document to GPTDataset, with modes and without")
PY
