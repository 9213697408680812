"""The nearest right name, for every sentence that answers a wrong one."""

from collections.abc import Iterable
from difflib import get_close_matches

# There may be thousands of tasks, and a sentence that lists them all is not read.
_LISTED = 12
_ALIKE = 0.61
"""How alike two names are, from 0 to 1, where one may be meant by the other; "nope" and "openai" are 0.6."""


def quoted(text: str) -> str:
    """Put a user's text between quotes for a terminal; unprintable characters are escaped."""
    return f'"{printable(text)}"'


def printable(text: str) -> str:
    """Put a stranger's text on one line for a terminal; unprintable characters are escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def nearest(word: str, names: Iterable[str]) -> str | None:
    """Find the name that was probably meant, ignoring case; None where no name is near."""
    by_folded = {name.casefold(): name for name in names}
    close = get_close_matches(word.casefold(), by_folded, n=1, cutoff=_ALIKE)
    return by_folded[close[0]] if close else None


def hint(word: str, names: Iterable[str]) -> str:
    """Word the end of a sentence about an unknown name: the nearest name, else those that exist, else nothing."""
    known = sorted(set(names))
    near = nearest(word, known)
    if near is not None:
        return f"; did you mean {quoted(near)}?"
    listed = ", ".join(quoted(name) for name in known[:_LISTED])
    more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
    return f"; there is {listed}{more}" if known else ""
