"""The training itself: steps, phases in order, validation, checkpoints, and stopping well.

A step is the mean over all target tokens of its rows, or over its examples, whatever the layout: every rank sums its
losses, gradients are summed, and both are divided by the one global count. Ranks agree before each step on whether to
stop, so that a signal that reaches one of them in the middle of a step ends all after that step.

B = rows of a micro-batch, T = row_tokens.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch

from orca_recipes.errors import NonFiniteLoss
from orca_recipes.shards.training import Training
from orca_recipes.train.checkpoints.position import Position
from orca_recipes.train.data.ahead import Ahead
from orca_recipes.train.data.batches import Batch, MicroBatches, Normalization, Share
from orca_recipes.train.data.order import RowPlace
from orca_recipes.train.data.provenance import describe
from orca_recipes.train.data.rows import Rows
from orca_recipes.train.data.training_phases import TrainingPhase
from orca_recipes.train.data.validation_groups import Groups, validation_order
from orca_recipes.train.journal import Glance, Journal, Step
from orca_recipes.train.learning_rate import Rates
from orca_recipes.train.model.architecture import Architecture
from orca_recipes.train.model.flops import peak_flops, step_flops
from orca_recipes.train.model.network import network_of
from orca_recipes.train.optimizer import Optimizer
from orca_recipes.train.passes import Hear, Pass
from orca_recipes.train.processes.parallel_layout import Layout, Place
from orca_recipes.train.training_settings import Settings
from orca_recipes.train.transfer import sent
from orca_recipes.train.validation import GroupSums, Validation

# A checkpoint or a validation makes one step long: the time left must not jump with it.
_PACE_KEPT = 0.9
"""How much of the pace told so far stays in the next one."""


_TERMS = 1
"""Where the terms stand among what ranks sum."""


class Keeper(Protocol):
    """Saves checkpoints for the loop; one that ends a phase is never removed."""

    def save(self, position: Position, *, ended: TrainingPhase | None) -> None: ...

    def settle(self, *, wait: bool) -> None:
        """Publish a checkpoint that is still being written if it can be, or when it can be."""


@dataclass(frozen=True)
class Totals:
    """Sums over the rows of a step, of all ranks. terms: what the loss is the mean over.

    gradient_square: of the norm of the mean gradient, where one was made.
    """

    loss: float
    terms: int
    target_tokens: int
    stored_tokens: int
    flops: float
    gradient_square: float
    bad_rows: tuple[RowPlace, ...]


@dataclass
class Tally:
    """Counts over micro-batches as they pass. terms: the number of losses in the mean.

    losses_B: of each row, float64, with the places of the rows. They stay on the device until all of a step are made:
    reading one would halt it while the next micro-batch is read.
    """

    mean_over: Normalization
    architecture: Architecture
    terms: int = 0
    target_tokens: int = 0
    stored_tokens: int = 0
    flops: float = 0.0
    losses_B: list[tuple[tuple[RowPlace, ...], torch.Tensor]] = field(default_factory=list)

    def counting(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            self.terms += batch.terms(self.mean_over)
            self.target_tokens += batch.target_tokens
            self.stored_tokens += batch.stored_tokens
            spans = [bounds.tolist() for bounds in batch.cu_seqlens[: len(batch.places)]]
            self.flops += step_flops(self.architecture, spans, predicted=batch.target_tokens)
            yield batch


@dataclass
class Trainer:
    """One rank's part of a training.

    groups: of the examples of each dataset that is held out. ahead: reads the rows. stop_requested: asked before each
    step; true where this rank was told to stop.
    """

    settings: Settings
    layout: Layout
    place: Place
    rows: Rows
    ahead: Ahead
    groups: Mapping[str, Groups]
    optimizer: Optimizer
    rates: Rates
    keeper: Keeper
    journal: Journal
    stop_requested: Callable[[], bool]
    _pace: float | None = field(default=None, init=False)

    def run(self, position: Position) -> tuple[Position, bool]:
        """Train from a position to the end, or until told to stop; a checkpoint stands at either.

        Returns: where it ended, and whether it was told to stop before the end.
        Raises: NonFiniteLoss, naming the rows; DamagedShard where a row cannot be read.
        """
        saved = position
        while self._goes_on(position) and not self._told_to_stop():
            self.keeper.settle(wait=False)
            phase = self.settings.phases[position.phase - 1]
            try:
                position = self._step(phase, position)
            except NonFiniteLoss:
                # All ranks raise it, and a checkpoint on its way is of a step before it.
                self.keeper.settle(wait=True)
                raise
            ended = position.row >= phase.rows
            if ended or position.step % phase.training.validate_every == 0:
                self._validate(phase.training, position)
            if ended:
                position = Position(position.step, position.phase + 1)
            if ended or position.step % phase.training.checkpoint_every == 0:
                self._save(position, ended=phase if ended else None)
                saved = position
        # A run that was told to stop right behind a checkpoint would else write it twice.
        if saved != position:
            self._save(position, ended=None)
        self.keeper.settle(wait=True)
        return position, self._goes_on(position)

    def _save(self, position: Position, *, ended: TrainingPhase | None) -> None:
        # Writers are forked.
        self.ahead.settle()
        self.keeper.save(position, ended=ended)

    def _goes_on(self, position: Position) -> bool:
        asked = self.settings.request.steps
        return position.phase <= len(self.settings.phases) and (asked is None or position.step < asked)

    def _told_to_stop(self) -> bool:
        """Tell whether any rank was told to stop; every rank calls it."""
        if self.layout.processes == 1:
            return self.stop_requested()
        # Signals reach ranks at different times: one that stopped alone would leave the others waiting in a collective
        # for ever. Hosts meet for it, so that no GPU is halted.
        told = torch.tensor([float(self.stop_requested())])
        torch.distributed.all_reduce(told, group=self.place.hosts)
        return bool(told.item())

    def _step(self, phase: TrainingPhase, position: Position) -> Position:
        started = time.perf_counter()
        batches = self._rows_of_step(phase, position.row)
        order, stop_row = batches.order, batches.stop
        then = self._rows_after(phase, stop_row)
        tally = self._gone_through(batches, phase.training.loss_normalization, learn=True, then=then)
        joined = self._joined(tally)
        totals = self._read(tally, joined, self.optimizer.reduce(joined[_TERMS]))
        here = f"step {position.step + 1} (phase {phase.number}, rows {position.row} to {stop_row - 1})"
        if not math.isfinite(totals.loss):
            raise NonFiniteLoss(self._why_not_finite(here, totals.bad_rows))
        rate = self.rates.at(self._schedule_step(phase, position))
        taken = self.optimizer.step(totals.gradient_square, learning_rate=rate, terms=totals.terms)
        # The loss was finite and a gradient is not: which of the rows did it nobody can tell, so all are named.
        if not taken.is_taken:
            every = [order[row] for row in range(position.row, stop_row)]
            raise NonFiniteLoss(
                f"{here}: the gradient is not finite; its rows are {describe(self.rows, every)}; look at them, or "
                "lower the learning rate and go on from the last checkpoint"
            )
        done = Position(position.step + 1, phase.number, stop_row)
        step = Step(
            step=done.step,
            phase=phase.number,
            # A step without one target (all rows cut or unmarked) is possible in a small data set, and no reason to
            # fail.
            loss=totals.loss / max(totals.terms, 1),
            target_tokens=totals.target_tokens,
            rows=stop_row - position.row,
            learning_rate=rate,
            gradient_norm=taken.gradient_norm,
            seconds=time.perf_counter() - started,
        )
        self.journal.step(step, self._glance(step, totals))
        return done

    def _rows_of_step(self, phase: TrainingPhase, row: int) -> MicroBatches:
        """Return this rank's rows of the step that begins at a row of a phase."""
        stop = min(row + phase.training.batch_rows, phase.rows)
        return MicroBatches(self.rows, phase.order(), self._share(phase.training), start=row, stop=stop)

    def _rows_after(self, phase: TrainingPhase, row: int) -> MicroBatches | None:
        """Return this rank's rows of the step after one that ends at a row, None after the last."""
        if row < phase.rows:
            return self._rows_of_step(phase, row)
        following = next((later for later in self.settings.chosen if later.number == phase.number + 1), None)
        return None if following is None else self._rows_of_step(following, 0)

    def _gone_through(
        self,
        batches: MicroBatches,
        mean_over: Normalization,
        *,
        learn: bool,
        also: Hear | None = None,
        then: MicroBatches | None = None,
    ) -> Tally:
        """Go forward, and backward where it learns, over this rank's micro-batches; then others will be asked for."""
        model = self.optimizer.gradients
        tally = Tally(mean_over, network_of(model).architecture)

        def hear(batch: Batch, loss_BT: torch.Tensor) -> None:
            # Summed in float64: the order of micro-batches would else show in the last digits of the loss that is
            # logged.
            tally.losses_B.append((batch.places, loss_BT.sum(dim=1, dtype=torch.float64)))
            if also is not None:
                also(batch, loss_BT)

        through = Pass(mean_over, self.place.device, learn, micro_batches=len(batches), tokens=batches.tokens)
        through.run(model, tally.counting(self.ahead.over(batches, then=then)), hear)
        return tally

    def _joined(self, tally: Tally) -> torch.Tensor:
        """Sum the losses and counts of all ranks: float64 [5] on the device, as `_read` reads them."""
        nothing = torch.zeros((), dtype=torch.float64, device=self.place.device)
        # Row by row, in their order: how a device sums a tensor would show in the last digit.
        loss = sum((sum(loss_B.unbind(), start=nothing) for _, loss_B in tally.losses_B), start=nothing)
        counts = [tally.terms, tally.target_tokens, tally.stored_tokens, tally.flops]
        # Ranks of one tensor-parallel group hold the same rows: only one of them counts, or losses would be added up
        # twice.
        mine = [number if self.place.counts else 0.0 for number in counts]
        counted_here = sent(torch.tensor(mine, dtype=torch.float64), self.place.device)
        joined = torch.cat([(loss if self.place.counts else nothing)[None], counted_here])
        torch.distributed.all_reduce(joined)
        return joined

    def _read(self, tally: Tally, joined: torch.Tensor, gradient_square: torch.Tensor | None = None) -> Totals:
        """Read what all ranks have summed: the one place in a step where the host waits for its device."""
        square = joined.new_zeros(()) if gradient_square is None else gradient_square
        loss, terms, target_tokens, stored_tokens, flops, squared = torch.cat([joined, square[None]]).tolist()
        bad: tuple[RowPlace, ...] = ()
        if not math.isfinite(loss):
            # Only where something is wrong, which all ranks know from the sum: gathering objects would halt each step.
            gathered: list[tuple[RowPlace, ...]] = [()] * self.layout.processes
            torch.distributed.all_gather_object(gathered, _not_finite(tally) if self.place.counts else ())
            bad = tuple(place for places in gathered for place in places)
        return Totals(loss, round(terms), round(target_tokens), round(stored_tokens), flops, squared, bad)

    def _validate(self, training: Training, position: Position) -> None:
        """Compute the loss on the held-out rows, the same ones every time."""
        if training.validation is None:
            return
        order, mean_over = validation_order(self.rows, training), training.loss_normalization
        batches = MicroBatches(self.rows, order, self._share(training), start=0, stop=order.rows)
        sums = GroupSums(self.groups[training.validation])
        tally = self._gone_through(batches, mean_over, learn=False, also=sums.hear)
        totals = self._read(tally, self._joined(tally))
        groups = sums.joined(mean_over, device=self.place.device, counts=self.place.counts)
        self.journal.validation(
            Validation(
                step=position.step,
                phase=position.phase,
                loss=totals.loss / max(totals.terms, 1),
                target_tokens=totals.target_tokens,
                groups=groups,
            )
        )

    def _schedule_step(self, phase: TrainingPhase, position: Position) -> int:
        """Compute the schedule's step from rows, so that earlier batches may have had another size."""
        # Steps are counted over the phases that are trained, so that a run that begins with phase 2 warms up as any
        # other.
        before = sum(earlier.steps for earlier in self.settings.chosen if earlier.number < phase.number)
        return before + position.row // phase.training.batch_rows

    def _share(self, training: Training) -> Share:
        return Share(self.place.data_rank, self.layout.data_parallel, training.micro_batch_rows)

    def _glance(self, step: Step, totals: Totals) -> Glance:
        pace = step.seconds if self._pace is None else _PACE_KEPT * self._pace + (1 - _PACE_KEPT) * step.seconds
        self._pace = pace
        peak = peak_flops(self.place.device)
        whole = step.seconds * self.layout.processes
        return Glance(
            steps=self.settings.steps,
            fill=totals.stored_tokens / (step.rows * self.rows.manifest.row_tokens),
            utilization=totals.flops / (whole * peak) if peak is not None else None,
            seconds_left=pace * (self.settings.steps - step.step),
        )

    def _why_not_finite(self, here: str, bad: tuple[RowPlace, ...]) -> str:
        named = describe(self.rows, bad) if bad else "none by itself: the sum of all is too large"
        return f"{here}: the loss is not finite; the rows that caused it: {named}"


def _not_finite(tally: Tally) -> tuple[RowPlace, ...]:
    """Name this rank's rows whose loss is not finite."""
    rows = [row for places, loss_B in tally.losses_B for row in zip(places, loss_B.tolist(), strict=False)]
    return tuple(place for place, loss in rows if not math.isfinite(loss))
