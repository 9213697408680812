"""Tables as text, for a terminal and for a report."""

from collections.abc import Sequence


def table(title: str, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A title and aligned columns; columns of figures stand to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[at]) for row in [list(heads), *cells]) for at in range(len(heads))]
    right = [all(_is_figure(row[at]) for row in cells) and bool(cells) for at in range(len(heads))]
    lines = [title]
    for row in [list(heads), ["-" * width for width in widths], *cells]:
        padded = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        lines.append("  " + "  ".join(padded).rstrip())
    return "\n".join(lines) + "\n\n"


def _is_figure(cell: str) -> bool:
    return not cell or cell[0].isdigit() or cell in ("-",)
