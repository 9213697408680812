"""The phases of a recipe's curriculum, before and after they can be counted in rows.

How many rows a dataset has is known once it is packed; until then a plan says what it can: the examples that are taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orca_recipes.counted import counted
from orca_recipes.recipe.model import Recipe
from orca_recipes.run.publish import asked_phases
from orca_recipes.shards.curriculum import AskedPhase, DatasetSize, compiled_curriculum


@dataclass(frozen=True)
class PhaseView:
    """The datasets, length and counts of a phase.

    datasets: dataset to weight, None where it is gone through whole. examples: one pass over the examples taken, None
    where a size is not known yet. rows, tokens, trained_tokens: of the whole phase, None until its datasets are packed.
    """

    datasets: Mapping[str, str | None]
    epochs: int | None
    asked_tokens: int | None
    examples: int | None
    rows: int | None
    tokens: int | None
    trained_tokens: int | None


def phase_views(
    recipe: Recipe, *, taken: Mapping[str, int | None], packed: Mapping[str, DatasetSize]
) -> tuple[PhaseView, ...]:
    """Count the examples, rows and tokens of each phase, as far as they are known.

    Args:
        taken: examples that each dataset takes. packed: sizes of the datasets that are packed already.
    """
    return tuple(_view(phase, taken, packed) for phase in asked_phases(recipe))


def phase_lines(views: Sequence[PhaseView]) -> list[tuple[str, ...]]:
    """Lay out the lines of a table, its head first; none where there is no phase."""
    if not views:
        return []
    lines: list[tuple[str, ...]] = [("phase", "datasets", "length", "examples", "rows", "tokens", "trained tokens")]
    for number, view in enumerate(views, start=1):
        counts = (view.examples, view.rows, view.tokens, view.trained_tokens)
        shown = ("?" if count is None else f"{count:,}" for count in counts)
        lines.append((str(number), _datasets(view), _length(view), *shown))
    return lines


def _view(phase: AskedPhase, taken: Mapping[str, int | None], packed: Mapping[str, DatasetSize]) -> PhaseView:
    counts = [taken.get(name) for name in phase.datasets]
    known = [count for count in counts if count is not None]
    rows = tokens = trained_tokens = None
    if all(name in packed and packed[name].rows for name in phase.datasets):
        (compiled,) = compiled_curriculum([phase], packed).phases
        rows, tokens, trained_tokens = sum(compiled.rows.values()), compiled.seen_tokens, compiled.seen_trained_tokens
    return PhaseView(
        datasets=phase.datasets,
        epochs=phase.epochs,
        asked_tokens=phase.tokens,
        examples=sum(known) if len(known) == len(counts) else None,
        rows=rows,
        tokens=tokens,
        trained_tokens=trained_tokens,
    )


def _datasets(view: PhaseView) -> str:
    return " + ".join(name if weight is None else f"{weight} {name}" for name, weight in view.datasets.items())


def _length(view: PhaseView) -> str:
    if view.epochs is not None:
        return counted(view.epochs, "epoch")
    return counted(view.asked_tokens or 0, "token")
