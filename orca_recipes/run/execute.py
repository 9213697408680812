"""Run a plan's stages, each only where the store does not hold it yet.

What makes a stage is the function `make` of its verb's module (`run/__init__.py`). Order and schedule are decided here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from importlib import import_module

from orca_recipes.plan.comparisons import QUESTIONS
from orca_recipes.plan.mixing import MIXING
from orca_recipes.plan.stages import Stage
from orca_recipes.plan.used_parts import collects
from orca_recipes.progress import SharedProgress
from orca_recipes.run import VERBS
from orca_recipes.run.answers.stale_answers import let_go, stale_answers
from orca_recipes.run.work.bench import Bench
from orca_recipes.run.work.schedule import run_in_order, run_side_by_side
from orca_recipes.store.arrow_files import keep_pandas_out
from orca_recipes.store.stage_folder import StageFolder

Maker = Callable[[Bench, StageFolder, str], None]
"""Makes the stage of a subject in the folder that it is handed."""

_ANSWERED = "orca_recipes.run.answers.converse_answered"
"""What makes conversations of bought answers; who makes none does without importing it."""

_MADE_ELSEWHERE = {"tokenizer", "template", "write"}
"""Verbs whose stages are made while pinning, and while a build is published."""


def execute(bench: Bench, verbs: Collection[str] = ("tokenize", "pack")) -> None:
    """Bring what shards are written from into the store, every stage up to packing.

    Args:
        verbs: the stages that are wanted; others are made where those need them.
    Raises: StoreError where the store cannot be written; whatever a stage raises.
    """
    bench.store.claim(bench.plan, bench.progress.say)
    if {"answer", "tokenize", "pack"} & set(verbs):
        _let_go_of_stale(bench)
    order = [stage.name for stage in sorted(bench.plan, key=_rank) if stage.verb not in _MADE_ELSEWHERE]
    bench.lacking = _lacking(bench, order, verbs)
    names = [name for name in order if name in bench.lacking]
    bench.store.hold_earlier((bench.plan[name] for name in names), bench.progress.say)
    if names:
        # pyarrow would import pandas, if installed, which costs 0.2 to 0.3 s a process.
        keep_pandas_out()
    if not bench.is_spread:
        run_in_order(names, lambda name: _make(bench, name))
        return
    bench.progress = SharedProgress(bench.progress)
    # Stages that two datasets share are made once, by the first: the second would wait for it and say so.
    makers = {bench.plan[name].fingerprint: name for name in reversed(names)}
    run_side_by_side(
        [name for name in names if makers[bench.plan[name].fingerprint] == name],
        inputs={
            name: [makers.get(bench.plan[needed].fingerprint, needed) for needed in bench.plan[name].inputs]
            for name in names
        },
        work=lambda name: _make(bench, name),
        at_once=bench.stages_at_once,
        stop=bench.halt,
    )


def _rank(stage: Stage) -> float:
    """Rank a stage for its start: first the ones that can be refused for their counts; draws need each other in the
    plan's order."""
    verbs = list(VERBS)
    if stage.verb == "compare" and stage.subject.endswith(f"/{QUESTIONS}"):
        return verbs.index("ask") - 0.5
    return verbs.index(MIXING[0] if stage.verb in MIXING else stage.verb)


def _let_go_of_stale(bench: Bench) -> None:
    """Have stages made again whose answers no longer count; a build that buys nothing keeps empty replies."""
    stale = stale_answers(bench.recipe, bench.plan, bench.store, bench.traces, asks_empty=bench.may_buy)
    if stale:
        let_go(bench.store, bench.plan, stale)
        bench.progress.say(f"{next(iter(stale))}: {next(iter(stale.values()))}; it is asked again")


def _lacking(bench: Bench, makeable: Collection[str], verbs: Collection[str]) -> set[str]:
    """List the stages to run: those of these verbs, and the unfinished inputs of each. A stage all of
    whose consumers are in the store is neither read nor made."""
    needed = {stage.name for stage in bench.plan if stage.verb in verbs}
    lacking = set()
    for stage in reversed(list(bench.plan)):
        if stage.name in needed & set(makeable) and not _is_sound(bench, stage.name):
            lacking.add(stage.name)
            needed |= set(stage.inputs)
    return lacking


def _is_sound(bench: Bench, name: str) -> bool:
    """Tell whether the store holds a stage byte for byte; every byte is about to be read anyway."""
    folder = bench.folder(name)
    return folder.published and not folder.faults(readers=bench.workers)


def _make(bench: Bench, name: str) -> None:
    """Make a stage, unless another build made it meanwhile."""
    stage = bench.plan[name]
    with bench.store.working_on(stage, bench.progress.say) as folder:
        started = time.monotonic()
        if not folder.is_sound(name, bench.progress.say, readers=bench.workers):
            _maker(bench, stage)(bench, folder, stage.subject)
            bench.timings[name] = round(time.monotonic() - started, 3)


def _maker(bench: Bench, stage: Stage) -> Maker:
    """Choose what makes a stage: conversations of bought answers are made of what was asked and answered."""
    module = VERBS[stage.verb]
    if stage.verb == "converse" and collects(bench.recipe, stage.subject.partition("/")[0]):
        module = _ANSWERED
    maker: Maker = import_module(module).make
    return maker
