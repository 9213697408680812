"""The table of mixtures that `plan` prints: one line a collection, one in all, and what is short in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orca_recipes.counted import counted
from orca_recipes.run.mixture_views import MixtureView, TakenView

_HEAD = ("mixture", "collection", "pool", "taken", "notes", "state")


def mixture_table(mixtures: Mapping[str, MixtureView]) -> str:
    """All mixtures, in columns."""
    lines: list[tuple[str, ...]] = [_HEAD]
    for name, view in mixtures.items():
        for collection, taken in view.collections.items():
            lines.append((name, collection, _shown(taken.pool), _shown(taken.rows), _notes(taken), taken.state))
        if len(view.collections) > 1:
            lines.append((name, "in all", "", _shown(view.rows), "", ""))
    short = [
        f"mixtures.{name}{'.take.' if found else ''}{found}: {counted(number, 'row')} too few"
        for name, view in mixtures.items()
        for found, number in view.short.items()
    ]
    return "\n".join([in_columns(lines), *short])


def in_columns(lines: Sequence[tuple[str, ...]]) -> str:
    """Lines of texts as columns, each as wide as its widest."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _notes(taken: TakenView) -> str:
    """What is to be said of a draw beside its count."""
    notes = [
        f"{number:,} {what}"
        for number, what in (
            (taken.repeats, "repeats"),
            (taken.duplicates, "duplicates left out"),
            (taken.excluded, "excluded"),
            (taken.held_out, "held out"),
        )
        if number
    ]
    if taken.drawn is not None and taken.rows is not None and taken.drawn > taken.rows:
        notes.append(f"{taken.drawn - taken.rows:,} in reserve")
    if taken.level is not None:
        notes.append(f"about {taken.level:,} of each large task")
    if taken.duplicates is None:
        notes.append("duplicates not known yet")
    return ", ".join(notes)


def _shown(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"
