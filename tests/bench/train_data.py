"""One process of the bench of the trainer's data: `python -m tests.bench.train_data BUILD`, figures as JSON."""

import json
import resource
import sys
import time
from pathlib import Path

from orca_recipes.train.data.batches import MicroBatches, Share
from orca_recipes.train.data.examine import examine
from orca_recipes.train.data.rows import Rows
from orca_recipes.train.training_settings import Request, resolve
from tests.bench.train import resident_megabytes

PASS_ROWS = 2_000
PASSES = 5


def main() -> None:
    build = Path(sys.argv[1])
    wall, cpu, before = time.perf_counter(), time.process_time(), resource.getrusage(resource.RUSAGE_SELF)
    settings = resolve(Request(build=build))
    examine(build, settings.manifest, whole=False)
    rows, phase = Rows(build, settings.manifest), settings.chosen[0]
    order = phase.order()
    next(iter(MicroBatches(rows=rows, order=order, share=Share(0, 1, 8), start=0, stop=8)))
    after = resource.getrusage(resource.RUSAGE_SELF)
    told: dict[str, object] = {
        "start_seconds": time.perf_counter() - wall,
        "start_cpu": time.process_time() - cpu,
        # Blocks are of 512 bytes, whatever the disk's.
        "start_megabytes_from_disk": (after.ru_inblock - before.ru_inblock) * 512 / 1e6,
        "start_waits": after.ru_nivcsw - before.ru_nivcsw,
        "row_tokens": settings.manifest.row_tokens,
        "pass_rows": min(PASS_ROWS, order.rows),
    }
    seconds, megabytes = [], []
    for _ in range(PASSES):
        cpu = time.process_time()
        for _ in MicroBatches(rows=rows, order=order, share=Share(0, 1, 8), start=0, stop=min(PASS_ROWS, order.rows)):
            pass
        seconds.append((time.process_time() - cpu) / min(PASS_ROWS, order.rows))
        megabytes.append(resident_megabytes())
    print(json.dumps({**told, "row_seconds": min(seconds), "epoch_megabytes": megabytes}))


if __name__ == "__main__":
    main()
