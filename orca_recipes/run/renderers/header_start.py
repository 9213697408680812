"""Where the header of a message begins in the text that a template prints before its content."""

from __future__ import annotations

import re
from collections.abc import Sequence


def header_start(text: str, control: re.Pattern[str], answers: Sequence[str]) -> int:
    """Return the number of characters that stand before a message's header; 0 where none of them are words.

    What stands there is the template's own: tools, a system message that it puts in.

    Args:
        text: all that is printed before the content. answers: the control tokens of an answer's header, in order. The
            message's own header begins as that does, or has the role's own token in the place of the first.
    """
    tokens = list(control.finditer(text))
    alike = [token for token in tokens if answers and token.group() == answers[0]]
    if not tokens:
        return 0
    if alike:
        before = alike[-1].start()
    else:
        shares_second = len(tokens) > 1 and list(answers[1:2]) == [tokens[-1].group()]
        before = tokens[-2 if shares_second else -1].start()
    return before if control.sub("", text[:before]).strip() else 0
