#!/usr/bin/env bash
# megatron-core 0.16.1, torch 2.13.0 (CPU), numpy 2.4.6
# A build's .bin/.idx pair is opened with megatron-core's own reader, IndexedDataset; nothing is trained.
# One would guess: reading two files, or importing any of the library, compiles nothing. torch itself loads its compilers
#   when a compiled function is first called or made, and `import torch` loads neither.
# What happens: the import gives functions that fuse activations to torch.compile as decorators, and with a function given,
#   that loads torch's whole compiler: hundreds of modules of torch._dynamo and torch._inductor. With that one decorator put
#   off, none of them is loaded.
# Why it matters for instruction-tuning data: it is most of the CPU that the import takes (1.1 in place of 2.5 seconds here),
#   paid by each rank, each worker of a data loader that is spawned, and each look at a shard.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6 packaging megatron-core==0.16.1
cat > loaded.py <<'PY'
import sys
import time
from importlib.metadata import version
from types import ModuleType

import torch


def compilers():
    return sum(name.startswith(("torch._dynamo", "torch._inductor")) for name in sys.modules)


before, put_off = compilers(), sys.argv[1] == "put off"
if put_off:
    late = ModuleType("megatron.core.jit")
    late.jit_fuser = lambda function: function
    sys.modules[late.__name__] = late
began = time.process_time()
from megatron.core.datasets.indexed_dataset import IndexedDataset  # noqa: E402

seconds = time.process_time() - began
print(f"megatron-core {version('megatron-core')}, torch {torch.__version__}, decorator {sys.argv[1]}:")
print(f"  modules of compilers {before} before the import, {compilers()} after it; {seconds:.1f} CPU seconds")
sys.exit(0 if before == 0 and (compilers() == 0 if put_off else compilers() > 100) else "it is no longer so")
PY
venv/bin/python -W ignore loaded.py "as it is"
venv/bin/python -W ignore loaded.py "put off"
