"""Output of a training: a line a step on the terminal, `log.jsonl`, and scalars for TensorBoard, and for Trackio where
installed.

Only rank 0 keeps one. A resumed run cuts the log back to the step of its checkpoint, so that every step stands in it
once and the curve is that of an undisturbed run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

from orca_recipes.counted import counted
from orca_recipes.json_text import json_value
from orca_recipes.shards.files import write_whole
from orca_recipes.shards.show.visible import visible
from orca_recipes.train.trackio_scalars import TrackioScalars, is_installed
from orca_recipes.train.validation import Validation

LOG = "log.jsonl"
TENSORBOARD = "tensorboard"

_SHOWN_GROUPS = 6
"""Groups of validation rows that a terminal shows of each sort, those with the highest losses; the log has all."""


@dataclass(frozen=True)
class Step:
    """One step as it is logged: numbers of the global batch.

    step: from 1, over all phases. loss: mean over target tokens, or over examples. rows: trained on in this step.
    """

    step: int
    phase: int
    loss: float
    target_tokens: int
    rows: int
    learning_rate: float
    gradient_norm: float
    seconds: float


@dataclass(frozen=True)
class Glance:
    """Figures for the terminal only, beside those of a step.

    steps: of the whole run. fill: stored tokens / room of the step's rows. utilization: model FLOP utilization, where
    the device's peak is known. seconds_left: at the recent pace.
    """

    steps: int
    fill: float
    utilization: float | None
    seconds_left: float


class Journal(Protocol):
    """A destination for a training's numbers."""

    def step(self, step: Step, glance: Glance) -> None: ...

    def validation(self, found: Validation) -> None: ...

    def say(self, sentence: str) -> None: ...


class Scalars(Protocol):
    """A destination for single numbers, plotted as curves."""

    def add_scalar(self, name: str, value: float, step: int, /) -> object: ...

    def close(self) -> None: ...


class Silence:
    """The journal of every rank but the first."""

    def step(self, step: Step, glance: Glance) -> None:
        pass

    def validation(self, found: Validation) -> None:
        pass

    def say(self, sentence: str) -> None:
        pass


class RunJournal:
    """The journal of rank 0."""

    def __init__(self, log: TextIO, scalars: Sequence[Scalars], stream: TextIO) -> None:
        self._log, self._scalars, self._stream = log, scalars, stream

    def step(self, step: Step, glance: Glance) -> None:
        self._write(asdict(step))
        for name in ("loss", "learning_rate", "gradient_norm"):
            self._add_scalar(name, getattr(step, name), step.step)
        self._add_scalar("target_tokens_per_second", step.target_tokens / step.seconds, step.step)
        self._add_scalar("row_fill", glance.fill, step.step)
        if glance.utilization is not None:
            self._add_scalar("flop_utilization", glance.utilization, step.step)
        self.say(step_line(step, glance))

    def validation(self, found: Validation) -> None:
        groups = {sort: {name: asdict(group) for name, group in by.items()} for sort, by in found.groups.items()}
        self._write(
            {
                "step": found.step,
                "phase": found.phase,
                "validation_loss": found.loss,
                "target_tokens": found.target_tokens,
                "validation_losses": groups,
            }
        )
        self._add_scalar("validation_loss", found.loss, found.step)
        for sort, by in found.groups.items():
            for name, group in by.items():
                self._add_scalar(f"validation_loss_by_{sort}/{name}", group.loss, found.step)
        for line in validation_lines(found):
            self.say(line)

    def _add_scalar(self, name: str, value: float, step: int) -> None:
        for each in self._scalars:
            each.add_scalar(name, value, step)

    def say(self, sentence: str) -> None:
        print(visible(sentence), file=self._stream, flush=True)

    def _write(self, line: dict[str, Any]) -> None:
        self._log.write(json.dumps(line) + "\n")
        # A run that is killed must not lose the steps that explain it.
        self._log.flush()


@contextmanager
def open_journal(run: Path, *, after_step: int) -> Iterator[RunJournal]:
    """Open the journal of a run resumed after a step; lines an earlier try logged beyond it are cut off."""
    from torch.utils.tensorboard import SummaryWriter

    path = run / LOG
    # What was logged behind the checkpoint is done again, and would stand in the log twice.
    kept = [line for line in read_log(path) if line["step"] <= after_step]
    write_whole(path, "".join(json.dumps(line) + "\n" for line in kept).encode())
    with path.open("a", encoding="utf-8") as log, ExitStack() as closing:
        # purge_step hides what an earlier try plotted beyond the checkpoint.
        scalars: list[Scalars] = [SummaryWriter(str(run / TENSORBOARD), purge_step=after_step + 1)]
        closing.callback(scalars[0].close)
        if is_installed():
            scalars.append(TrackioScalars(run, kept))
            closing.callback(scalars[1].close)
        yield RunJournal(log, scalars, sys.stdout)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a log; a last line cut off in mid-write is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            lines.append(json_value(text))
        except ValueError:
            # A line that a crash cut off is the last: what would follow it cannot be trusted.
            break
    return lines


def step_line(step: Step, glance: Glance) -> str:
    """Format one step as a line for the terminal."""
    parts = [
        f"step {step.step:,}/{glance.steps:,}",
        f"phase {step.phase}",
        f"loss {step.loss:.4f}",
        f"lr {step.learning_rate:.2e}",
        f"norm {step.gradient_norm:.2f}",
        f"{step.target_tokens / step.seconds:,.0f} target tokens/s",
        f"fill {glance.fill:.0%}",
    ]
    if glance.utilization is not None:
        parts.append(f"FLOPs {glance.utilization:.0%}")
    return "  ".join([*parts, f"{clock(glance.seconds_left)} left"])


def validation_lines(found: Validation) -> Iterator[str]:
    """Format a validation as lines for the terminal, with one line for each sort that has several groups."""
    told = f"validation loss {found.loss:.4f} over {counted(found.target_tokens, 'target token')}"
    yield f"step {found.step:,}: {told}"
    for sort, by in found.groups.items():
        if len(by) > 1:
            worst = sorted(by, key=lambda name: -by[name].loss)
            shown = [f"{name or 'none'} {by[name].loss:.4f}" for name in worst[:_SHOWN_GROUPS]]
            more = f", and {len(by) - _SHOWN_GROUPS} lower" if len(by) > _SHOWN_GROUPS else ""
            yield f"  by {sort}: {', '.join(shown)}{more}"


def clock(seconds: float) -> str:
    """Format a span of time: "0:42", "1:05:00", "2d 03:10"."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours >= 24:
        return f"{hours // 24}d {hours % 24:02d}:{minute:02d}"
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
