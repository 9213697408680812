"""Text in columns, for every page that is printed."""

from __future__ import annotations

from collections.abc import Sequence


def in_columns(lines: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> list[str]:
    """Lay lines of texts out in columns, each as wide as its widest text, two spaces apart.

    Args:
        right: columns whose texts stand at the right.
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(_placed(line, widths, right)).rstrip() for line in lines]


def _placed(line: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> list[str]:
    return [
        text.rjust(width) if place in right else text.ljust(width)
        for place, (text, width) in enumerate(zip(line, widths, strict=True))
    ]
