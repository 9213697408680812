"""Text of strangers, made safe to print: whatever could steer a terminal is shown as a sign that stands for it.

Data sets hold escape sequences, carriage returns and marks that turn the direction of writing. None of them may reach a
terminal, and none may vanish.
"""

import unicodedata

_JOINERS = "\u200c\u200d"
"""Zero-width joiners belong to emoji and to many scripts, and steer nothing."""
# Categories that steer a terminal, turn the direction of writing, or show nothing.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"})


def visible(text: str, *, keep: str = "") -> str:
    """Replace every control, format or unassigned character with a visible sign, except those of `keep`."""
    if text.isprintable():
        return text
    signs: dict[str, str | int | None] = {
        char: _sign(char) for char in set(text) if char not in keep and char not in _JOINERS
    }
    return text.translate(str.maketrans(signs))


def _sign(char: str) -> str:
    code = ord(char)
    if code < 0x20:
        # Unicode's control pictures have a sign for each control character, in the same order.
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    return f"⟨U+{code:04X}⟩" if unicodedata.category(char) in _HIDDEN else char
