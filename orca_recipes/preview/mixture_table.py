"""The tables of mixtures that `plan` prints: a line a collection, one in all, what is short; and a paper's figures."""

from __future__ import annotations

from collections.abc import Mapping

from orca_recipes.counted import counted
from orca_recipes.plan.paper import WHOLE, PaperRow, PaperTable
from orca_recipes.preview.mixture_counts import MixtureView, TakenView
from orca_recipes.recipe.measured import UNITS
from orca_recipes.text_table import in_columns

_HEAD = ("mixture", "collection", "pool", "taken", "notes", "state")


def mixture_table(mixtures: Mapping[str, MixtureView]) -> str:
    """Lay out all mixtures, in columns."""
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
    return "\n".join([*in_columns(lines), *short, *_counting_questions(mixtures)])


def _counting_questions(mixtures: Mapping[str, MixtureView]) -> list[str]:
    """List a remark on each mixture with shares of question tokens, counted before answers."""
    return [
        f"mixtures.{name}: its shares count tokens of questions alone, and what is packed holds answers too; "
        'where these exist already, tokens_of = "conversation" or "trained" counts them'
        for name, view in mixtures.items()
        if any(taken.tokens_of == "question" for taken in view.collections.values())
    ]


def _of_tokens(taken: TakenView, whole: int) -> list[str]:
    """List the tokens of a draw beside those asked for, and their share of all that were drawn by shares of tokens."""
    if taken.asked_tokens is None or taken.tokens_of is None:
        return []
    unit = UNITS[taken.tokens_of]
    if taken.tokens is None:
        return [f"{taken.asked_tokens:,} {unit}"]
    share = f"{100 * taken.tokens / whole:.1f}%" if whole else "0%"
    return [f"{taken.tokens:,} of {taken.asked_tokens:,} {unit} ({share})"]


def _notes(taken: TakenView) -> list[str]:
    """List the remarks on a draw, beside its count."""
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


def paper_text(table: PaperTable) -> str:
    """Lay out a paper's table with its title, a line a figure."""
    lines = [("mixture", "collection", "paper", "ours", "difference", "note"), *map(_line, table.rows)]
    return f"{table.title} ({table.source})\n" + "\n".join(in_columns(lines))


def _line(row: PaperRow) -> tuple[str, ...]:
    ours = "?" if row.ours is None else f"{row.ours:,}"
    difference = "?" if row.difference is None else f"{row.difference:+,}" if row.difference else "none"
    collection = "in all" if row.collection == WHOLE else row.collection
    return row.mixture, collection, f"{row.paper:,}", ours, difference, row.note
