#!/usr/bin/env bash
# torch 2.13.0 (CPU)
# `elastic_launch`, which torchrun is made of, starts two ranks that print a line each and end well. No log is asked for.
# One would guess: without logs there is nothing to keep, and a launch that went well leaves the temporary folder as it
#   was.
# What happens: every launch leaves a tree of empty folders there, one for each rank, which nobody removes. With
#   torchrun's own command it is the same.
# Why it matters for instruction-tuning data: a service that launches small trainings, or a suite that tests one, fills
#   the temporary folder, often held in memory, one launch after the other. Give `LaunchConfig` a `DefaultLogsSpecs`
#   whose folder is yours to remove.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6
mkdir api named command
cat >rank.py <<'PY'
import os

print("rank", os.environ["RANK"], "ended", flush=True)
PY
cat >launch.py <<'PY'
import sys

from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

own = {"logs_specs": DefaultLogsSpecs(log_dir=sys.argv[1])} if len(sys.argv) > 1 else {}
config = LaunchConfig(1, 1, 2, rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=0, **own)
elastic_launch(config, sys.executable)("rank.py")
PY
for launch in 1 2 3; do TMPDIR="$folder/api" venv/bin/python -I -W ignore launch.py; done
TMPDIR="$folder/named" venv/bin/python -I -W ignore launch.py "$folder/logs"
TMPDIR="$folder/command" venv/bin/python -W ignore -m torch.distributed.run --standalone --nproc-per-node 2 rank.py
left() { find "$1" -mindepth 1 -maxdepth 1 -name 'torchelastic_*' | wc -l; }
files() { find "$1" -path '*torchelastic_*' -type f | wc -l; }
echo "left behind: $(left api) folders of 3 launches, $(left command) of torchrun, $(left named) where a folder is named"
echo "files in them: $(files api) and $(files command)"
if [[ $(left api) != 3 || $(left command) != 1 || $(left named) != 0 || $(files api) != 0 || $(files command) != 0 ]]; then
    echo "No longer so: what a launch leaves behind is another."
    exit 1
fi
echo "SEEN: each launch that keeps no log leaves a folder behind"
