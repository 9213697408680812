"""Parts of conversations: what was made of examples, and which of it passed the filters.

Conversations lie as they were made, before any filter looks at them: another filter then makes no other file, and what
was made of the file before is known again by its digest alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.shards.text_columns import numbers
from orca_recipes.store.arrow_files import column_of, one_piece, read_table, write_table
from orca_recipes.store.stage_folder import Part, PartWriter

if TYPE_CHECKING:
    import pyarrow as pa

MADE, PASSED = ".arrow", ".passed.arrow"
"""The files of a part: conversations as they were made; and, where not all passed, the rows of those that did."""
BESIDE, ASKED = ".asked.arrow", ("asked_question", "asked_system")
"""The file of a part that holds what the rows of its conversations ask and the system messages that they bring, where
a dataset compares them; its columns."""


def passed_rows(part: Part) -> np.ndarray | None:
    """Return the rows of a part that passed the filters, int32, rising; None: all of them."""
    if "made" not in part.report:
        return None
    return numbers(one_piece(read_table(part.file(PASSED))["row"]))


def passed_mask(part: Part) -> np.ndarray | None:
    """Return bool [rows of the file]: those that passed; None: all of them."""
    passed = passed_rows(part)
    if passed is None:
        return None
    mask = np.zeros(part.report["made"], dtype=np.bool_)
    mask[passed] = True
    return mask


def write_made(writer: PartWriter, made: pa.Table, earlier: Iterable[Path]) -> None:
    """Write conversations as they were made, unless an earlier stage holds the very same: then its file is linked."""
    for path in earlier:
        if _holds(path, made):
            writer.take(MADE, path)
            return
    write_table(writer.path(MADE), made)


def write_passed(writer: PartWriter, rows: np.ndarray, made: int) -> tuple[list[str], dict[str, int]]:
    """Write the rows that passed, unless all did; return the files' suffixes and the entries for the part's report."""
    import pyarrow as pa

    if len(rows) == made:
        return [], {}
    write_table(writer.path(PASSED), pa.table({"row": column_of(rows.astype(np.int32))}))
    return [PASSED], {"made": made}


def _holds(path: Path, made: pa.Table) -> bool:
    """Tell whether a file, perhaps gone or damaged, holds exactly this table."""
    import pyarrow as pa

    try:
        table = read_table(path)
        return bool(table.schema.equals(made.schema) and table.num_rows == made.num_rows and table.equals(made))
    except (OSError, pa.ArrowException):
        return False
