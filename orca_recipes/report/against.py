"""The difference from another build as a report shows it, cut to the size of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orca_recipes.diff.changed_examples import Standing
from orca_recipes.diff.difference import Difference, compare
from orca_recipes.diff.difference_page import MEANINGS, shown_value
from orca_recipes.diff.value_changes import Change
from orca_recipes.errors import BuildError
from orca_recipes.progress import Progress
from orca_recipes.recipe.choice import Kinds
from orca_recipes.report.row_samples import beginning, clipped
from orca_recipes.shards.manifest import NAME

_HERE = {**MEANINGS, "added": "only in this build", "dropped": "only in the other"}
# As on the rest of the page: a change of thousands of examples is a count and the first few of them.
_MOST_LINES = 40
_MOST_EXAMPLES = 3
_PATH_CHARS = 160
_TEXT_CHARS = 1_200


def against(other: Path, directory: Path, *, kinds: Kinds, progress: Progress) -> Mapping[str, Any]:
    """Compare a build with another one; give what a page tells of it.

    Raises: BuildError where the other is no build; DamagedShard.
    """
    if not (other / NAME).is_file():
        raise BuildError(f"{other} is not a complete build: it has no {NAME}; --against names another build")
    found = compare(other, directory, kinds=kinds, progress=progress)
    assert found.before.manifest is not None
    assert found.rows is not None
    return {
        "name": clipped(found.before.manifest.name, _PATH_CHARS),
        "digest": found.before.manifest.data_digest,
        "is_equal": found.is_equal,
        "changes": [_changes("What was asked", found.recipe), _changes("Pins and stages", found.pins)],
        "rows": [(name, number, _HERE[name]) for name, number in found.rows.items() if number],
        "counts": _counts(found),
        "examples": [
            {
                "change": name,
                "id": example.id,
                "begins": _begins(example.after or example.before),
                "sides": [
                    ("before", _standing(example.before)),
                    ("now", _standing(example.after)),
                ],
            }
            for name, examples in found.examples.items()
            for example in examples[:_MOST_EXAMPLES]
        ],
    }


def _changes(title: str, changes: Sequence[Change]) -> Mapping[str, Any]:
    lines = [
        (clipped(change.path, _PATH_CHARS), shown_value(change.before), shown_value(change.after))
        for change in changes[:_MOST_LINES]
    ]
    return {"title": title, "lines": lines, "number": len(changes)}


def _counts(found: Difference) -> Mapping[str, Any]:
    """List examples and tokens before and now: of all, and of each dataset and collection that differs."""
    assert found.tokens is not None
    lines = [("all", found.tokens)]
    for name, dataset in found.tokens["datasets"].items():
        lines.append((name, dataset))
        lines += [(f"{name}: {collection}", counts) for collection, counts in dataset["collections"].items()]
    shown = [(clipped(name, _PATH_CHARS), pair["before"], pair["after"]) for name, pair in lines[:_MOST_LINES]]
    return {"lines": shown, "more": max(0, len(lines) - _MOST_LINES)}


def _begins(standing: Standing | None) -> str:
    return "" if standing is None else beginning(span.text for span in standing.segments if span.trained)


def _standing(standing: Standing | None) -> Mapping[str, Any] | None:
    if standing is None:
        return None
    names = (standing.dataset, f"row {standing.row:,}", f"{standing.collection}/{standing.task}", standing.strategy)
    return {
        "about": clipped(", ".join(filter(None, names)), 3 * _PATH_CHARS),
        "tokens": standing.tokens,
        "trained_tokens": standing.trained_tokens,
        "pieces": [
            {"role": span.role, "is_trained": span.trained, "text": clipped(span.text, _TEXT_CHARS)}
            for span in standing.segments[:_MOST_LINES]
        ],
    }
