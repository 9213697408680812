"""The difference of two recipes, locks or builds: what was asked, pins, rows and tokens, with examples to look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orca_recipes.counted import counted
from orca_recipes.diff.changed_examples import ChangedExample, looked_at
from orca_recipes.diff.example_columns import example_columns
from orca_recipes.diff.row_changes import Matcher, RowChanges
from orca_recipes.diff.sides import Side, open_side, together
from orca_recipes.diff.token_changes import token_changes
from orca_recipes.diff.value_changes import Change, value_changes
from orca_recipes.progress import Progress
from orca_recipes.recipe.choice import Kinds
from orca_recipes.shards.in_use import begin_to_read


@dataclass(frozen=True)
class Difference:
    """The changes from `before` to `after`.

    rows: examples by class, see `row_changes`; tokens: see `token_changes`; both None where no builds are compared.
    examples: a few of each class but "same". not_compared: in sentences.
    """

    before: Side
    after: Side
    recipe: list[Change]
    pins: list[Change]
    rows: dict[str, int] | None = None
    tokens: dict[str, Any] | None = None
    examples: Mapping[str, list[ChangedExample]] = field(default_factory=dict)
    not_compared: tuple[str, ...] = ()

    @property
    def is_equal(self) -> bool:
        """Tell whether nothing differs."""
        changed = 0 if self.rows is None else sum(self.rows.values()) - self.rows["same"]
        counts = None if self.tokens is None else self.tokens["datasets"]
        return not (self.recipe or self.pins or changed or counts)

    def as_json(self) -> dict[str, Any]:
        shown = {name: [found.as_json() for found in examples] for name, examples in self.examples.items()}
        return {
            "equal": self.is_equal,
            "before": str(self.before.path),
            "after": str(self.after.path),
            "recipe": [change.as_json() for change in self.recipe],
            "pins": [change.as_json() for change in self.pins],
            "rows": self.rows,
            "tokens": self.tokens,
            "examples": shown,
            "not_compared": list(self.not_compared),
        }


def compare(before: Path, after: Path, *, kinds: Kinds, progress: Progress, profile: str | None = None) -> Difference:
    """Compare two recipes, two locks or two builds.

    Args:
        profile: of recipes, what it makes of them; None: all that is written.
    Raises: UserError where they are not of one sort; BuildError; DamagedShard where a build is damaged.
    """
    with ExitStack() as held:
        for path in (before, after):
            if path.is_dir():
                held.enter_context(begin_to_read(path))
        first, second = (open_side(path, kinds=kinds, profile=profile) for path in (before, after))
        return _difference(first, second, progress)


def _difference(before: Side, after: Side, progress: Progress) -> Difference:
    together(before, after)
    recipe = value_changes(before.asked or {}, after.asked or {})
    pinned = before.pins is not None and after.pins is not None
    pins = value_changes(before.pins or {}, after.pins or {}) if pinned else []
    if before.manifest is None or after.manifest is None:
        return Difference(before, after, recipe, pins, not_compared=tuple(_left_out(before, after)))
    found = _rows(before, after, progress)
    shown = {name: pairs for name, pairs in found.shown.items() if name != "same"}
    examples = looked_at(before, after, shown)
    tokens = token_changes(before.manifest, after.manifest)
    return Difference(before, after, recipe, pins, found.counts, tokens, examples)


def _rows(before: Side, after: Side, progress: Progress) -> RowChanges:
    assert before.manifest is not None
    assert after.manifest is not None
    total = sum(counts.examples for side in (before.manifest, after.manifest) for counts in side.datasets.values())
    progress.begin("rows", total=total, unit="examples")
    matcher = Matcher()
    for dataset in dict.fromkeys([*before.manifest.datasets, *after.manifest.datasets]):
        old = example_columns(before.path, before.manifest, dataset, progress.advance)
        new = example_columns(after.path, after.manifest, dataset, progress.advance)
        matcher.match(dataset, old, new)
    found = matcher.changes()
    progress.end(counted(total, "example"))
    return found


def _left_out(before: Side, after: Side) -> Iterator[str]:
    missing = [side.path for side in (before, after) if side.pins is None]
    if len(missing) == 1:
        yield f"pins: {missing[0]} has no lock beside it; `orca-recipe lock {missing[0]}` writes one"
    elif missing:
        yield "pins: neither recipe has a lock beside it; `orca-recipe lock` writes one"
