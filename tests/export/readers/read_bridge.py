"""Print what Megatron-Bridge's packed SFT dataset makes of a folder: of each row, the trained pairs (token, label).

python read_bridge.py FOLDER METADATA ROW_TOKENS EOS_ID
"""

import json
import sys
import typing
from types import SimpleNamespace

from standing_in import absent, bare

if not hasattr(typing, "override"):  # Python 3.12's
    typing.override = lambda method: method  # type: ignore[attr-defined]
absent("megatron.bridge.training.tokenizers.tokenizer")
bare("megatron", "megatron.core", "megatron.bridge", "megatron.bridge.data", "megatron.bridge.data.datasets")
bare("megatron.bridge.data.packing", "megatron.bridge.training", "megatron.bridge.training.tokenizers")
bare("megatron.bridge.utils")
absent("megatron.bridge.utils.common_utils", "megatron.core.tokenizers")

from megatron.bridge.data.packing.parquet import GPTSFTPackedParquetDataset  # noqa: E402

folder, metadata, row_tokens, eos_id = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
dataset = GPTSFTPackedParquetDataset(
    folder,
    SimpleNamespace(eos_id=eos_id, eod=eos_id, bos_id=eos_id),
    max_seq_length=row_tokens,
    pad_to_max_length=True,
    pad_cu_seqlens=True,
    pack_metadata_file_path=metadata,
    prompt_template="{input} {answer}",
    truncation_field="input",
    answer_only_loss=True,
)
rows = []
for number in range(len(dataset)):
    line = dataset[number]
    dataset.validate_row(number, line["input_ids"], line["loss_mask"], line["seq_boundaries"][:-1])
    batch = dataset.collate_fn([line])
    bounds = sorted(set(batch["cu_seqlens_q"][0].tolist()))
    trained = batch["loss_mask"][0] > 0
    pairs = zip(batch["tokens"][0][trained].tolist(), batch["labels"][0][trained].tolist(), strict=True)
    rows.append({"bounds": bounds, "pairs": list(pairs), "positions": batch["position_ids"][0].tolist()})
print(json.dumps(rows))
