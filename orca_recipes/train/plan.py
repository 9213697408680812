"""Plan of a training, before it starts: `orca-recipe train BUILD --dry-run`.

Memory is an estimate from the shapes alone, so it is told as "about"; rows, steps and tokens are exact, but for phases
that end inside an epoch, whose tokens are told by their share of the dataset's rows.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from orca_recipes.counted import counted
from orca_recipes.train.data.training_phases import TrainingPhase
from orca_recipes.train.journal import LOG, clock, read_log
from orca_recipes.train.processes.memory import activation_bytes, device_bytes, held_bytes, memory_told
from orca_recipes.train.processes.parallel_layout import Layout
from orca_recipes.train.start import Start
from orca_recipes.train.training_settings import Settings

# The first steps compile and fill caches; an estimate from them would be too long.
_RECENT_STEPS = 50


def plan_text(settings: Settings, start: Start, layout: Layout) -> str:
    """Format the plan as lines for a person."""
    phases, architecture = settings.chosen, start.architecture
    lines = [
        f"{settings.request.build}: {settings.manifest.name}, rows of {counted(settings.manifest.row_tokens, 'token')}",
        f"model {settings.model}: {architecture.parameters:,} parameters, vocabulary {architecture.vocabulary_size:,} "
        f"(padded to {architecture.padded_vocabulary_size:,})",
        f"layout: {layout}, {counted(layout.processes, 'rank')}",
        memory_told(settings, architecture, layout),
        *(_phase_line(settings, phase) for phase in phases),
        f"in all: {counted(settings.steps, 'step')}" + _cut(settings),
        _time_line(settings),
        *(sentence for sentence in (settings.fewer_steps, start.unknown, start.changed) if sentence is not None),
    ]
    return "\n".join(lines)


def plan_json(settings: Settings, start: Start, layout: Layout) -> dict[str, Any]:
    """Return the plan for programs. seconds: None until a log gives a rate. unknown: facts not checked of a model."""
    phases, architecture = [], start.architecture
    for phase in settings.chosen:
        tokens, trained = _tokens(settings, phase)
        phases.append(
            {
                "phase": phase.number,
                "datasets": dict(phase.taken),
                "rows": phase.rows,
                "steps": phase.steps,
                "batch_rows": phase.training.batch_rows,
                "tokens": tokens,
                "trained_tokens": trained,
                "learning_rate": phase.training.learning_rate,
                "schedule": phase.training.schedule,
            }
        )
    return {
        "build": str(settings.request.build),
        "run": str(settings.request.run),
        "model": settings.model,
        "parameters": architecture.parameters,
        "vocabulary_size": architecture.vocabulary_size,
        "layout": asdict(layout),
        "ranks": layout.processes,
        "held_bytes": int(held_bytes(architecture, layout)),
        "activation_bytes": int(activation_bytes(settings, architecture, layout)),
        "device_bytes": device_bytes(layout),
        "phases": phases,
        "steps": settings.steps,
        "unknown": start.unknown,
        "seconds": _seconds(settings),
    }


def known_row_seconds(run: Path) -> float | None:
    """Return seconds a row in the last steps that a run has logged; None where it logged none."""
    steps = [line for line in read_log(run / LOG) if "seconds" in line][-_RECENT_STEPS:]
    return median(line["seconds"] / line["rows"] for line in steps) if steps else None


def _phase_line(settings: Settings, phase: TrainingPhase) -> str:
    datasets = ", ".join(f"{name} {rows / phase.held[name]:.4g} times" for name, rows in phase.taken.items())
    tokens, trained = _tokens(settings, phase)
    training = phase.training
    return (
        f"phase {phase.number}: {datasets}; {counted(phase.rows, 'row')}, {counted(phase.steps, 'step')} of "
        f"{training.batch_rows}, {counted(tokens, 'token')} ({trained:,} trained), "
        f"learning rate {training.learning_rate:g} {training.schedule}"
    )


def _tokens(settings: Settings, phase: TrainingPhase) -> tuple[int, int]:
    """Count the tokens and trained tokens of a phase's rows."""
    held = {name: settings.manifest.datasets[name] for name in phase.taken}
    tokens = sum(held[name].tokens * rows // held[name].rows for name, rows in phase.taken.items())
    trained = sum(held[name].trained_tokens * rows // held[name].rows for name, rows in phase.taken.items())
    return tokens, trained


def _cut(settings: Settings) -> str:
    whole = sum(phase.steps for phase in settings.chosen)
    return f" of the curriculum's {whole:,} (--steps)" if settings.steps < whole else ""


def _time_line(settings: Settings) -> str:
    pace, seconds = known_row_seconds(settings.request.run), _seconds(settings)
    if pace is None or seconds is None:
        return f"time: unknown until {settings.request.run / LOG} tells a rate"
    return f"time: about {clock(seconds)}, at the {pace:.3g} seconds a row of {settings.request.run / LOG}"


def _seconds(settings: Settings) -> float | None:
    """Estimate the seconds of all steps from the log's pace; None where the log gives none."""
    pace = known_row_seconds(settings.request.run)
    if pace is None:
        return None
    left, rows = settings.steps, 0
    for phase in settings.chosen:
        rows += min(phase.rows, left * phase.training.batch_rows)
        left -= min(left, phase.steps)
    return rows * pace
