"""One rank of a training, from its command line to its end.

Everything that can be wrong with a request is found before a process group starts: the cheap part by every rank, so
that none waits for one that gave up, the digests by the first rank of each machine; rank 0 alone speaks.
"""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from types import FrameType

import torch

from orca_recipes.counted import counted
from orca_recipes.errors import DamagedShard, Failure, OrcaError, OutOfMemory
from orca_recipes.shards.in_use import begin_to_read
from orca_recipes.shards.show.visible import visible
from orca_recipes.shards.training import Training
from orca_recipes.train.checkpoints.checkpoint import load_weights, resume
from orca_recipes.train.checkpoints.checkpoint_files import clear
from orca_recipes.train.checkpoints.description import NAME as CHECKPOINT
from orca_recipes.train.checkpoints.position import Position
from orca_recipes.train.data.ahead import Ahead
from orca_recipes.train.data.examine import examine
from orca_recipes.train.data.pinned import Pinned, of_one_build, pinned, refuse_different_builds
from orca_recipes.train.hf.conversion import load_hf
from orca_recipes.train.journal import Silence, open_journal
from orca_recipes.train.keeper import RunKeeper
from orca_recipes.train.learning_rate import Rates, Schedule
from orca_recipes.train.loop import Trainer
from orca_recipes.train.model.network import Network, build_model
from orca_recipes.train.optimizer import AdamW, Optimizer, build_optimizer
from orca_recipes.train.processes.determinism import deterministic
from orca_recipes.train.processes.memory import memory_told, telling_of_no_memory
from orca_recipes.train.processes.parallel_layout import Layout, Place, checked, running
from orca_recipes.train.processes.spread import layout_of
from orca_recipes.train.run_folder import make_run_folder, refuse_foreign_run
from orca_recipes.train.start import CHECKPOINTS, Start, starting_point
from orca_recipes.train.training_settings import Request, Settings, resolve


@dataclass(frozen=True)
class Prepared:
    """A request that can be trained: checked against build, model, machine and the run's own checkpoints."""

    settings: Settings
    start: Start
    layout: Layout


def prepare(request: Request, ranks: int) -> Prepared:
    """Check a request as far as manifest, curriculum and configurations tell.

    Raises: the exact fault, in one sentence.
    """
    settings = resolve(request)
    refuse_foreign_run(request.run)
    start = starting_point(settings)
    layout = checked(
        layout_of(request, ranks),
        start.architecture,
        row_tokens=settings.manifest.row_tokens,
        align=settings.manifest.align,
    )
    return Prepared(replace(settings, model=start.model), start, layout)


def train_as_rank(request: Request, *, rendezvous: str = "env://") -> bool:
    """Train as the rank that torchrun's environment names (alone, without one).

    Returns: whether it was told to stop before the end.
    Raises: OrcaError on the rank that speaks; SystemExit with its status on the others.
    """
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    with ExitStack() as stack:
        with _one_voice(rank):
            reading = stack.enter_context(begin_to_read(request.build))
            with of_one_build(request.build, reading):
                prepared = prepare(request, ranks)
                if int(os.environ.get("LOCAL_RANK", "0")) == 0:
                    named = {phase.training.validation for phase in prepared.settings.chosen}
                    examine(
                        request.build,
                        prepared.settings.manifest,
                        whole=request.verify,
                        held_out=[name for name in named if name is not None],
                    )
                build = pinned(prepared.settings)
            if rank == 0:
                make_run_folder(request.run)
        training = prepared.settings.chosen[0].training
        stop_requested = stack.enter_context(_stop_signals())
        with (
            _one_voice(rank),
            _losing_no_rank_in_silence(),
            running(prepared.layout, seed=training.seed, rendezvous=rendezvous) as place,
            telling_of_no_memory(prepared.layout, rank),
            deterministic(asked=training.deterministic),
        ):
            return _train(prepared, build, place, stop_requested)


def _train(prepared: Prepared, build: Pinned, place: Place, stop_requested: Callable[[], bool]) -> bool:
    settings, start = prepared.settings, prepared.start
    training = settings.chosen[0].training
    first = place.rank == 0
    if first:
        # Before the model is made, which may be what there is no room for.
        print(memory_told(settings, start.architecture, prepared.layout), flush=True)
    refuse_different_builds(settings)
    model = build_model(
        start.architecture,
        prepared.layout,
        recompute="layers" if training.recompute else training.recompute_modules,
        initialize=start.resumed is None and start.weights is None,
    )
    optimizer = build_optimizer(model, prepared.layout, _adamw(training))
    weights = start.resumed or start.weights
    if first and weights is not None:
        print(visible(f"reading the weights of {weights}"), flush=True)
    _fill(prepared, model, optimizer)
    position = start.position
    run = settings.request.run
    if first:
        # Before the log: it tells that what else is in the folder is a training's.
        settings.write()
        # Of a run all of whose ranks were killed while they wrote.
        clear(run / CHECKPOINTS)
    with open_journal(run, after_step=position.step) if first else nullcontext(Silence()) as journal:
        if first:
            for sentence in _opening(prepared):
                journal.say(sentence)
        keeper = RunKeeper(settings, model, optimizer, run / CHECKPOINTS, build.tokenizer)
        with Ahead(place.device) as ahead, keeper.abandoning():
            trainer = Trainer(
                settings=settings,
                layout=prepared.layout,
                place=place,
                rows=build.rows,
                ahead=ahead,
                groups=build.groups,
                optimizer=optimizer,
                rates=_rates(settings),
                keeper=keeper,
                journal=journal,
                stop_requested=stop_requested,
            )
            position, stopped = trainer.run(position)
        journal.say(_closing(settings, position, stopped))
    return stopped


def _fill(prepared: Prepared, model: Network, optimizer: Optimizer) -> None:
    """Fill in the weights, and where the run is gone on with, the optimizer's state."""
    start = prepared.start
    if start.resumed is not None:
        resume(start.resumed, model, optimizer, manifest_digest=prepared.settings.manifest.digest)
    elif start.weights is not None and (start.weights / CHECKPOINT).is_file():
        load_weights(start.weights, model, optimizer)
    elif start.weights is not None:
        load_hf(start.weights, model)
        optimizer.weights_changed()


def _adamw(training: Training) -> AdamW:
    return AdamW(
        weight_decay=training.weight_decay,
        beta1=training.beta1,
        beta2=training.beta2,
        epsilon=training.epsilon,
        # 0 means "never", and no norm is above infinity.
        clip=training.clip_gradient or math.inf,
    )


def _rates(settings: Settings) -> Rates:
    return Rates(
        [
            (
                Schedule(
                    learning_rate=phase.training.learning_rate,
                    curve=phase.training.schedule,
                    warmup_steps=phase.training.warmup_steps,
                    final_learning_rate=phase.training.final_learning_rate,
                    carried_on=not phase.training.restart_schedule,
                ),
                phase.steps,
            )
            for phase in settings.chosen
        ]
    )


def _opening(prepared: Prepared) -> Iterator[str]:
    settings, start = prepared.settings, prepared.start
    begins = f"goes on from {start.resumed}" if start.resumed else f"begins in {settings.request.run}"
    yield (
        f"{settings.request.build}: {start.architecture.parameters:,} parameters, {prepared.layout}, "
        f"{counted(settings.steps, 'step')} at learning rate {settings.rates}; {begins}"
    )
    yield from filter(None, (settings.fewer_steps, start.unknown, start.changed))
    phase = start.position.phase
    if prepared.layout.device == "cpu" and start.position.step < settings.steps and phase <= len(settings.phases):
        # It may take minutes, in which nothing else would be said.
        training = settings.phases[phase - 1].training
        yield (
            f"running step {start.position.step + 1:,} on the CPU: {counted(training.batch_rows, 'row')} of "
            f"{counted(settings.manifest.row_tokens, 'token')}, {training.micro_batch_rows:,} at once on each rank"
        )


def _closing(settings: Settings, position: Position, stopped: bool) -> str:
    folder = settings.request.run / CHECKPOINTS
    if stopped:
        return f"stopped after step {position.step:,}; run the same command again to go on from {folder}"
    return f"{counted(position.step, 'step')} done; the last checkpoint is {folder / f'step-{position.step:08d}'}"


@contextmanager
def _one_voice(rank: int) -> Iterator[None]:
    """Let rank 0 alone speak of what all ranks find; of its own files and its own memory a rank speaks itself."""
    try:
        yield
    except OrcaError as error:
        if rank == 0 or isinstance(error, DamagedShard | OutOfMemory):
            raise
        sys.exit(error.exit_status)


@contextmanager
def _losing_no_rank_in_silence() -> Iterator[None]:
    """Name the loss of another rank, which a collective tells by an error of its transport."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.distributed.DistError) or "gloo" in str(error) or "NCCL" in str(error):
            raise Failure(
                "another rank ended in the middle of a step; the last checkpoint stands: "
                "run the same command again to go on"
            ) from error
        raise


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Catch Ctrl-C and a scheduler's SIGTERM, and yield whether one came: step and checkpoint come first."""
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
