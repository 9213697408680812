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
from orca_recipes.train.model.architecture import Architecture
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
        f"memory of a rank: about {_size(_held_bytes(architecture, layout))} of weights, gradients and optimizer, and "
        f"{_size(_activation_bytes(settings, architecture, layout))} of activations",
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
        "held_bytes": int(_held_bytes(architecture, layout)),
        "activation_bytes": int(_activation_bytes(settings, architecture, layout)),
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


def _held_bytes(architecture: Architecture, layout: Layout) -> float:
    """Count the bytes of weights, gradients, AdamW's two moments; on a GPU bfloat16 weights beside float32 that
    ranks share."""
    here = architecture.parameters / layout.tensor_parallel / layout.pipeline_parallel
    # Bytes: float32 four times; on a GPU bf16 weight, fp32 gradient, and 12 shared by the copies.
    return here * (16 if layout.device == "cpu" else 6 + 12 / layout.data_parallel)


def _activation_bytes(settings: Settings, architecture: Architecture, layout: Layout) -> float:
    """Estimate the activations kept for backward: inputs of each layer's products, and logits in float32 twice."""
    training = settings.chosen[0].training
    tokens = training.micro_batch_rows * settings.manifest.row_tokens
    width = 4 if layout.device == "cpu" else 2
    whole = 4 * architecture.hidden / (layout.tensor_parallel if layout.sequence_parallel else 1)
    attention = 2 * architecture.head_dim * (architecture.heads + architecture.kv_heads) / layout.tensor_parallel
    mlp = 3 * architecture.mlp_hidden / layout.tensor_parallel
    here = architecture.layers / layout.pipeline_parallel
    # What is recomputed is there for one layer at a time.
    if training.recompute:
        kept = whole + attention + mlp + here * architecture.hidden
    elif training.recompute_modules in ("mlp", "both"):
        kept = mlp + here * (whole + attention)
    else:
        kept = here * (whole + attention + mlp)
    kept *= tokens * width
    # The first stage holds the activations of as many micro-batches as there are stages.
    kept *= layout.pipeline_parallel
    return kept + tokens * 8 * architecture.padded_vocabulary_size / layout.tensor_parallel


def _size(number: float) -> str:
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number / 1e3:.1f} kB"
