"""Printing of rows: lines with a margin that names role and loss mask, in colour on a terminal and in words anywhere.

The margin stands before every line, so that no text of a data set can pass for a heading, and a line break that is in
the text is shown as ↵, so that nothing is hidden between one piece and the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orca_recipes.shards.show.visible import visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_STYLES = {"system": "magenta", "user": "cyan", "assistant": "green", "tool": "yellow", "mixed": "white"}
# The loss mask is visible without colour too.
_BARS = {False: "│", True: "┃"}
# The longest label, so that all texts begin in one column.
_MARGIN = len("assistant trained")


@dataclass(frozen=True)
class Piece:
    """One segment as shown: text, or token ids."""

    role: str
    is_trained: bool
    text: str

    @property
    def label(self) -> str:
        return f"{self.role} trained" if self.is_trained else self.role

    @property
    def style(self) -> str:
        return f"bold {_STYLES[self.role]}" if self.is_trained else f"dim {_STYLES[self.role]}"

    def lines(self) -> list[str]:
        """Return lines that are safe to print; each but the last ends in the sign of its line break."""
        *broken, last = visible(self.text, keep="\n\t").split("\n")
        return [f"{line}↵" for line in broken] + ([last] if last or not broken else [])


@dataclass(frozen=True)
class Section:
    """A heading and the pieces below it."""

    heading: str
    pieces: Sequence[Piece] = ()


@dataclass(frozen=True)
class Views:
    """The teacher's prompt and the student's view of it, side by side."""

    teacher: Sequence[Piece]
    student: Sequence[Piece]


@dataclass(frozen=True)
class SideBySide:
    """A heading and both views; where they cannot be told apart, pieces are what tokens say, and title says why."""

    heading: str
    views: Views | None
    pieces: Sequence[Piece]
    title: str

    def columns(self) -> list[tuple[str, Sequence[Piece]]]:
        if self.views is None:
            return [(self.title, self.pieces)]
        return [("the teacher was asked", self.views.teacher), ("the student sees", self.views.student)]


def print_sections(sections: Sequence[Section | SideBySide], console: Console) -> None:
    """Print in colour and wrapped on a terminal, else as plain lines of any length."""
    for section in sections:
        if isinstance(section, SideBySide):
            _print_side_by_side(section, console)
        elif console.is_terminal:
            _print_coloured(section, console)
        else:
            _print_plain(section, console)


def _print_side_by_side(section: SideBySide, console: Console) -> None:
    """Print two columns on a terminal; in plain text print one below the other, as columns would cut lines."""
    from rich.table import Table
    from rich.text import Text

    if not console.is_terminal:
        _print_lines(visible(section.heading), console)
        for title, pieces in section.columns():
            _print_plain(Section(f"  {title}", pieces), console)
        return
    table = Table(expand=True)
    for title, _ in section.columns():
        table.add_column(title, ratio=1, overflow="fold")
    table.add_row(*(_column(pieces) for _, pieces in section.columns()))
    console.print(Text(visible(section.heading), "bold"), table, Text(), sep="\n")


def _column(pieces: Sequence[Piece]) -> Text:
    from rich.text import Text

    column = Text()
    for piece in pieces:
        column.append(f"{piece.label}\n", "bold")
        for line in piece.lines():
            column.append(f"{_BARS[piece.is_trained]} {line}\n", piece.style)
    return column


def _print_plain(section: Section, console: Console) -> None:
    lines = [visible(section.heading)]
    lines += (f"  {label:<{_MARGIN}} {bar} {line}" for label, bar, line, _ in _rows(section))
    _print_lines("".join(f"{line}\n" for line in lines), console)


def _print_lines(text: str, console: Console) -> None:
    """Print lines, and an empty one after them, whatever the output can spell."""
    text = text.rstrip("\n") + "\n\n"
    encoding = getattr(console.file, "encoding", None) or "utf-8"
    console.file.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _print_coloured(section: Section, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True, min_width=_MARGIN)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for label, bar, line, style in _rows(section):
        # Text, never str: a str would be read as markup.
        grid.add_row(Text(label, style), Text(bar, style), Text(line, style))
    console.print(Text(visible(section.heading), "bold"), grid, Text(), sep="\n")


def _rows(section: Section) -> Iterator[tuple[str, str, str, str]]:
    """Label (on the first line of a piece), bar, line and style."""
    for piece in section.pieces:
        for number, line in enumerate(piece.lines()):
            yield piece.label if number == 0 else "", _BARS[piece.is_trained], line, piece.style
