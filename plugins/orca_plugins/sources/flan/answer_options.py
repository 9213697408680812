"""The answer options that stand in a question of FLAN-v2.

FLAN draws for each question how its options are headed and marked, so they are found by shape: a known head, then two
or more lines that begin with a mark. Of several such lists the last counts, which in a few-shot prompt is the
question's own.
"""

import re
from typing import TYPE_CHECKING

from orca_plugins.sources.flan.hub_layout import layout

if TYPE_CHECKING:
    import polars as pl

_MARK = r"(?:[-*+•]{1,2}[ \t]*|[(\[](?:[A-Za-z]|[IVXivx]{1,5}|[0-9]{1,2})[)\]]\.?[ \t]*|" + (
    r"(?:[A-Za-z]|[IVXivx]{1,5}|[0-9]{1,2})(?:\)\.?|[.:])[ \t]+)"
)
_LINE = rf"\n[ \t]*{_MARK}\S[^\n]*"


def options_in(questions: "pl.Series") -> "pl.Series":
    """Extract the options of each question: List[String] [questions], null where it shows none."""
    import polars as pl

    heads = "|".join(re.escape(head) for head in layout()["options"]["heads"])
    lists = pl.col("question").str.extract_all(rf"(?i)(?:{heads})[ \t]*(?:{_LINE}){{2,}}")
    lines = lists.list.last().str.extract_all(_LINE)
    texts = pl.element().str.extract(rf"^\n[ \t]*{_MARK}(\S[^\n]*)$", 1).str.strip_chars_end(" \t\r;")
    frame = questions.alias("question").to_frame()
    return frame.select(options=lines.list.eval(texts))["options"]
