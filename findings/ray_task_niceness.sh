#!/usr/bin/env bash
# ray 2.60.0
# A cluster of one machine is started by ray.init, and a task tells the niceness of its process. The machine does other
#   work, too.
# One would guess: that of the process that started the cluster, as processes of a pool have it.
# What happens: 15 more. All tasks of a cluster run at low priority, whatever started it; what is not Ray's gets most of
#   the cores. Where nothing else runs nobody sees it. RAY_worker_niceness, set before the cluster is started, changes it.
# Why it matters for instruction-tuning data: a build on a busy machine stands still on Ray and runs on any other engine,
#   and what is measured beside a pool of processes is not measured alike.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q ray==2.60.0
cat > told.py <<'PY'
import os

import ray

ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")


@ray.remote
def niceness():
    return os.getpriority(os.PRIO_PROCESS, 0)


print(ray.__version__, ray.get(niceness.remote()) - os.getpriority(os.PRIO_PROCESS, 0))
PY
export RAY_TMPDIR="$folder/r" RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=disabled
mkdir r
usual=$(venv/bin/python told.py 2>log || { cat log; exit 1; })
changed=$(RAY_worker_niceness=0 venv/bin/python told.py 2>log || { cat log; exit 1; })
echo "ray $usual more than the process that began, $changed with RAY_worker_niceness=0"
[[ $usual == "2.60.0 15" && $changed == "2.60.0 0" ]] || { echo "No longer so."; exit 1; }
echo "SEEN: tasks run at niceness 15 above what started them"
