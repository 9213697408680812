#!/usr/bin/env bash
# ray 2.60.0
# A cluster of this machine has two nodes. One worker of the second carries out a task, another has carried one out and is
#   idle; then that node's raylet is killed, as the kernel kills what needs too much memory.
# One would guess: the workers end with their raylet, and the task is lost.
# What happens: the cluster says that the node is dead, and its agents end. Both workers live on, with all that they hold in
#   memory: the busy one finishes its task and the driver gets the result; they end with the driver, not before.
# Why it matters for instruction-tuning data: workers hold tokenizers and tables. Where memory was what the raylet died of,
#   it is not given back, and a new node on that machine begins with less; and a part of a build goes on after its node is
#   said to be gone, beside the same part begun elsewhere: parts must be fit to be made twice.
set -euo pipefail
folder=$(mktemp -d /tmp/ray-XXXX)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q ray==2.60.0
cat > told.py <<'PY'
import os
import signal
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

GOES_ON, LOOKED_AT = 40, 60  # seconds after the raylet's end


def children(pid):
    return [int(one) for path in Path(f"/proc/{pid}/task").glob("*/children") for one in path.read_text().split()]


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
node = cluster.add_node(num_cpus=2, include_dashboard=False)
ray.init(address=cluster.address, log_to_driver=False, logging_level="CRITICAL")


@ray.remote
def pid():
    return os.getpid()


@ray.remote(max_retries=0)
def works(seconds):
    Path("begun").write_text(str(os.getpid()))
    os.rename("begun", "begun.whole")
    time.sleep(seconds)
    return "its result"


Path("begun.whole").unlink(missing_ok=True)
busy = works.remote(GOES_ON)
while not Path("begun.whole").exists():
    time.sleep(0.1)
used, working = ray.get(pid.remote()), int(Path("begun.whole").read_text())
raylet = node.all_processes["raylet"][0].process.pid
agents = [one for one in children(raylet) if one not in (used, working)]
os.kill(raylet, signal.SIGKILL)
killed = time.monotonic()
try:
    heard = ray.get(busy)
except ray.exceptions.RayError as error:
    heard = type(error).__name__
time.sleep(max(0, LOOKED_AT - (time.monotonic() - killed)))
alive = sum(one["Alive"] for one in ray.nodes())
print(ray.__version__, f"nodes alive {alive}, agents {sum(map(lives, agents))},", end=" ")
print(f"used worker {lives(used)}, busy worker {lives(working)}, heard {heard}")
PY
export RAY_TMPDIR="$folder/r" RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=disabled
mkdir r
told=$(timeout 300 venv/bin/python told.py 2>log | grep "^2\." || { cat log; exit 1; })
echo "ray $told"
wanted="2.60.0 nodes alive 1, agents 0, used worker True, busy worker True, heard its result"
[[ $told == "$wanted" ]] || { echo "No longer so."; exit 1; }
echo "SEEN: workers outlive the raylet that is killed, and a task of a dead node gives its result"
