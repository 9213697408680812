"""How a paper's figures are printed beside ours."""

from orca_recipes.plan.paper import WHOLE, PaperRow, PaperTable
from orca_recipes.preview.mixture_table import in_columns


def paper_text(table: PaperTable) -> str:
    """The table with its title, a line a figure."""
    lines = [("mixture", "collection", "paper", "ours", "difference", "note"), *map(_line, table.rows)]
    return f"{table.title} ({table.source})\n{in_columns(lines)}"


def _line(row: PaperRow) -> tuple[str, ...]:
    ours = "?" if row.ours is None else f"{row.ours:,}"
    difference = "?" if row.difference is None else f"{row.difference:+,}" if row.difference else "none"
    collection = "in all" if row.collection == WHOLE else row.collection
    return row.mixture, collection, f"{row.paper:,}", ours, difference, row.note
