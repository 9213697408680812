#!/usr/bin/env bash
# megatron-core 0.19.2, torch 2.13.0 (CPU), numpy 2.4.6
# A build's .bin/.idx pair is opened with megatron-core's own reader, IndexedDataset, on a machine without a GPU.
# One would guess: reading two files needs no GPU's compiler; megatron-core's requirements are torch, numpy, packaging.
# What happens: any import of megatron.core imports its schedules, these import kernels that stash activations of
#   experts, and these `import triton`, unguarded, since 0.18 (0.17 imports). torch's wheels for CPUs bring no triton.
# Why it matters for instruction-tuning data: shards are looked at, counted and proved on machines without GPUs. Install
#   triton there, or put a module of that name's place into sys.modules before.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6 packaging
venv/bin/pip download -q --no-deps --ignore-requires-python megatron-core==0.19.2
python3 -m zipfile -e megatron_core-*.whl unpacked
if venv/bin/python -c "import triton" 2>/dev/null; then echo "this torch brings triton: nothing to see"; exit 0; fi
if PYTHONPATH=unpacked venv/bin/python -W ignore -c "from megatron.core.datasets.indexed_dataset import IndexedDataset" 2>told; then
  echo "No longer so: megatron-core imports without triton."
  exit 1
fi
tail -n 3 told
grep -q "No module named 'triton'" told
echo "SEEN: the reader of two files needs triton"
