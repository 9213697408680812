"""Schedule of stages: each runs as soon as its inputs are ready, several at once where there are workers.

A stage runs on a thread of its own and hands its parts to the engine, whose workers go to whichever stage has parts:
while the last parts of one collection are read, the first of another are tokenized. Nothing of a stage knows of it:
what a stage makes is decided by its inputs, so the order in which stages run never shows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

_PATIENCE_SECONDS = 0.5
"""How long an interrupt waits for the stages that run: those that hear of it have ended by then, and one that is deep
in a library may be there for many seconds."""
_LOOK_UP_SECONDS = 0.2
"""How long is waited before an interrupt is looked for. polars has the system go on with a wait that a signal broke
off, so that Ctrl-C would be heard of only once the stage is over."""

Item = TypeVar("Item")


def run_in_order(names: Sequence[str], work: Callable[[str], None]) -> None:
    """Run stages one after the other. Raises: what the first to fail raises."""
    for name in names:
        work(name)


def run_side_by_side(
    names: Sequence[str],
    *,
    inputs: Mapping[str, Collection[str]],
    work: Callable[[str], None],
    at_once: int,
    stop: Callable[[], None],
) -> None:
    """Run stages, each once those of its inputs that are among them are done.

    Args:
        names: in an order in which they could run one after the other; earlier ones begin first.
        at_once: how many run at the same time.
        stop: makes running stages end soon; called on an interrupt, which one that cannot is not waited for.
    Raises: where several stages fail, what the earliest of them raises: after a failure none begins any more, and those
        that run go on to their end.
    """
    waiting, running = list(names), dict[str, Thread]()
    ended: SimpleQueue[tuple[str, BaseException | None]] = SimpleQueue()
    errors: dict[str, BaseException] = {}

    def run(name: str) -> None:
        try:
            work(name)
            ended.put((name, None))
        except BaseException as error:
            ended.put((name, error))

    try:
        while (waiting and not errors) or running:
            unfinished = {*waiting, *running}
            ready = [name for name in waiting if unfinished.isdisjoint(inputs[name])]
            for name in [] if errors else ready[: at_once - len(running)]:
                waiting.remove(name)
                running[name] = Thread(target=run, args=(name,), name=f"orca {name}", daemon=True)
                running[name].start()
            name, error = _next(ended)
            running.pop(name).join()
            if error is not None:
                errors[name] = error
    except BaseException:
        stop()
        _wait_for(running.values())
        raise
    if errors:
        raise errors[min(errors, key=list(names).index)]


def _wait_for(threads: Iterable[Thread]) -> None:
    ends = time.monotonic() + _PATIENCE_SECONDS
    for thread in threads:
        thread.join(max(0.0, ends - time.monotonic()))


def _next(queue: SimpleQueue[Item]) -> Item:
    """Wait for the next item of a queue, open to an interrupt meanwhile."""
    while True:
        try:
            return queue.get(timeout=_LOOK_UP_SECONDS)
        except Empty:
            continue
