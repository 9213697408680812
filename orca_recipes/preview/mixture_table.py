"""The table of mixtures that `plan` prints: one line a collection, one in all, and what is short in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orca_recipes.counted import counted
from orca_recipes.preview.mixture_counts import MixtureView, TakenView
from orca_recipes.recipe.measured import UNITS

_HEAD = ("mixture", "collection", "pool", "taken", "notes", "state")


def mixture_table(mixtures: Mapping[str, MixtureView]) -> str:
    """All mixtures, in columns."""
    lines: list[tuple[str, ...]] = [_HEAD]
    for name, view in mixtures.items():
        whole = sum(taken.tokens or 0 for taken in view.collections.values())
        for collection, taken in view.collections.items():
            notes = ", ".join([*_of_tokens(taken, whole), *_notes(taken)])
            lines.append((name, collection, _shown(taken.pool), _shown(taken.rows), notes, taken.state))
        if len(view.collections) > 1:
            lines.append((name, "in all", "", _shown(view.rows), "", ""))
    short = [
        f"mixtures.{name}{'.take.' if found else ''}{found}: {counted(number, 'row')} too few"
        for name, view in mixtures.items()
        for found, number in view.short.items()
    ]
    return "\n".join([in_columns(lines), *short, *_counting_questions(mixtures)])


def in_columns(lines: Sequence[tuple[str, ...]]) -> str:
    """Lines of texts as columns, each as wide as its widest."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _counting_questions(mixtures: Mapping[str, MixtureView]) -> list[str]:
    """What is to be known of shares that are of tokens before answers."""
    return [
        f"mixtures.{name}: its shares count tokens of questions alone, and what is packed holds answers too; "
        'where these exist already, tokens_of = "conversation" or "trained" counts them'
        for name, view in mixtures.items()
        if any(taken.tokens_of == "question" for taken in view.collections.values())
    ]


def _of_tokens(taken: TakenView, whole: int) -> list[str]:
    """The tokens of a draw beside those asked for, and their share of all that were drawn by shares of tokens."""
    if taken.asked_tokens is None or taken.tokens_of is None:
        return []
    unit = UNITS[taken.tokens_of]
    if taken.tokens is None:
        return [f"{taken.asked_tokens:,} {unit}"]
    share = f"{100 * taken.tokens / whole:.1f}%" if whole else "0%"
    return [f"{taken.tokens:,} of {taken.asked_tokens:,} {unit} ({share})"]


def _notes(taken: TakenView) -> list[str]:
    """What else is to be said of a draw beside its count."""
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
    return notes


def _shown(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"
