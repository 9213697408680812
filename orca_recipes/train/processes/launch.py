"""Starting the ranks of a training on this machine, with torchrun's own launcher.

The ranks run `python -m orca_recipes.train`, as on a cluster, so there is one way to train. What is wrong with a
request is found before any of them starts, by the check that each makes for itself; what only the data tell is said by
rank 0, and the launcher adds a sentence only where a rank was killed.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, PContext, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from orca_recipes.counted import counted
from orca_recipes.train.options import words_of
from orca_recipes.train.processes.rank import prepare
from orca_recipes.train.processes.spread import chosen_device, ranks_here
from orca_recipes.train.training_settings import Request

# The status that shells give a process ended by Ctrl-C: 128 + SIGINT.
_INTERRUPTED = 130

# PContext.close takes a number of seconds, so no limit is a month.
_NO_LIMIT_SECONDS = 30 * 24 * 3600

_STOPPING = "stopping after this step, with a checkpoint; Ctrl-C again ends at once, and the last checkpoint stands"


def launch(request: Request) -> int:
    """Train with as many ranks as the request needs, and wait for them.

    Returns: the exit status: that of the first rank that failed, 0 where none did.
    Raises: the exact fault of a request that can be told before any rank is started; see `prepare`.
    """
    request = replace(request, device=chosen_device(request))
    ranks = ranks_here(request)
    settings = prepare(request, ranks).settings
    # Imports of the ranks and reading a large model take minutes, in which nothing else would be said.
    asked = f"{counted(settings.steps, 'step')} at learning rate {settings.rates}"
    print(f"{asked}; starting {counted(ranks, 'rank')}", flush=True)
    return start_ranks(ranks, ["-m", "orca_recipes.train", *words_of(request)])


def start_ranks(ranks: int, words: Sequence[str]) -> int:
    """Start so many processes `python WORDS --launched-by PID`, and wait for them.

    Returns: the exit status: that of the first rank that failed, 0 where none did.
    """
    # Its log repeats, with a stack of its own, what the ranks have said.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    # Ranks begin with `python -m`, which would run a torch.py that lies in the current folder.
    os.environ["PYTHONSAFEPATH"] = "1"
    # Each rank would start a thread for every core, and all would fight for them.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // ranks)))
    try:
        # torchrun leaves a folder of its own behind, where none is named.
        with tempfile.TemporaryDirectory(prefix="orca-recipe-train-") as logs, _waiting_for_the_step():
            # Ranks are no children of the terminal: where the launcher is killed, nothing else would end them.
            elastic_launch(_config(ranks, logs), sys.executable)(*words, "--launched-by", str(os.getpid()))
    except ChildFailedError as error:
        return _status(error.get_first_failure()[1])
    except SignalException:
        return _INTERRUPTED
    return 0


@contextmanager
def _waiting_for_the_step() -> Iterator[None]:
    """Wait for the ranks to finish their step and its checkpoint when this process is told to stop.

    torchrun would kill them after 30 seconds: a step of a minute was lost, and no checkpoint was written (only torch
    2.12 and newer have an option for that, and it would also wait for ranks that hang because another one died). Told
    again, it ends at once.
    """
    close, told = PContext.close, [0]

    def patiently(context: PContext, death_sig: signal.Signals | None = None, timeout: int = 30) -> None:
        if isinstance(sys.exception(), SignalException):
            told[0] += 1
            timeout = _NO_LIMIT_SECONDS if told[0] == 1 else 1
            if told[0] == 1:
                print(_STOPPING, file=sys.stderr, flush=True)
        close(context, death_sig, timeout)

    PContext.close = patiently  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        PContext.close = close  # type: ignore[method-assign]


def _config(ranks: int, logs: str) -> LaunchConfig:
    return LaunchConfig(
        logs_specs=DefaultLogsSpecs(log_dir=logs),
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id=f"orca-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.5,
    )


def _status(failure: ProcessFailure) -> int:
    status = int(failure.exitcode)
    if status >= 0:
        return status
    name = signal.Signals(-status).name
    print(
        f"rank {failure.local_rank} was ended by {name}; the last checkpoint stands: "
        "run the same command again to go on",
        file=sys.stderr,
    )
    return 1
