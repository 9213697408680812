#!/usr/bin/env bash
# torch 2.13.0 (CPU), numpy 2.4.6
# A checkpoint of 40 weights is written by torch.distributed.checkpoint's FileSystemWriter; a planner hands out each as a tensor
#   of its own, as copies from a GPU are.
# One would guess: a weight is let go of once it is in the file, so that writing takes one weight of memory beside the model.
# What happens: all are held until the file is finished: each stays in a table by its name, which only the format of
#   safetensors uses (filesystem.py, `tensor_dict` in `_write_files_from_queue`), and torch's own format fills as well.
# Why it matters for instruction-tuning data: the host of a training needs room for everything that a rank writes, not for one
#   weight: a 70B model with AdamW's moments on 8 ranks is 105 GB of host memory a rank at each checkpoint. Write into
#   several files, or weight by weight with a writer of one's own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
cat > told.py <<'PY'
import tempfile
import weakref

import numpy as np
import torch
import torch.distributed.checkpoint as dcp

WEIGHTS = 40
made, most = [], 0


class Copying(dcp.DefaultSavePlanner):
    def resolve_data(self, item):
        global most
        found = super().resolve_data(item)
        if not isinstance(found, torch.Tensor):
            return found
        copy = np.array(found)
        made.append(weakref.ref(copy))
        most = max(most, sum(one() is not None for one in made))
        return torch.from_numpy(copy)


state = {f"layer.{number}.weight": torch.full((1000,), float(number)) for number in range(WEIGHTS)}
with tempfile.TemporaryDirectory() as place:
    dcp.save(state, storage_writer=dcp.FileSystemWriter(place), planner=Copying(), no_dist=True)
print(torch.__version__.split("+")[0], f"copies of {WEIGHTS} weights that were held at once: {most}")
PY
told=$(venv/bin/python -W ignore told.py 2>log || { cat log; exit 1; })
echo "torch $told"
[[ $told == "2.13.0 copies of 40 weights that were held at once: 40" ]] || { echo "No longer so."; exit 1; }
echo "SEEN: every weight is held until the file of a checkpoint is finished"
