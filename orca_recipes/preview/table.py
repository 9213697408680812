"""Tables as plain text."""

from collections.abc import Sequence


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Lines with columns as wide as they need, two spaces apart."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
