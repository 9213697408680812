"""The final answer of a text, compared with the reference by the task's sort of answer.

A final answer stands behind the last words that announce one ("the answer is", "####", a box), else in the last line;
what is nowhere announced and nowhere clear is no match. What a line denies ("not 8") is no answer.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from typing import Literal

from orca_plugins.filters._numbers import numbers_in

Sort = Literal["choice", "number", "yes_no", "text"]

_ANNOUNCED = re.compile(
    r"(?:\bfinal answer\b|\b(?:correct |right )?(?:answer|option|choice)\b)\s*(?:is|are|would be|:|=|\u2192)+\s*:?\s*"
    r"|####\s*|\\boxed\s*\{",
    re.IGNORECASE,
)
_LETTER = re.compile(r"(?<![A-Za-z0-9'])\(?([A-Z])(?:\)|\.|:|,|\b)(?![A-Za-z0-9'])")
_ALONE = re.compile(r"^\W*([A-Za-z])\W*$")
_YES = {"yes": True, "true": True, "correct": True, "no": False, "false": False, "incorrect": False}
_YES_WORD = re.compile(r"\b(yes|no|true|false|incorrect|correct)\b", re.IGNORECASE)
# "7, not 8", "B rather than C", "it isn't 8 but 7": what is denied reaches to "but", a comma or the end.
_DENIED = re.compile(r"(?:\bnot\b|n['\u2019]t\b|\brather than\b|\binstead of\b)(?:(?!\bbut\b|[,;]\s).)*", re.IGNORECASE)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def sort_of(reference: str, options: Sequence[str] | None) -> Sort:
    """Classify a reference by its sort of answer."""
    if options or _ALONE.match(reference):
        return "choice"
    if reference.strip().strip(".").casefold() in _YES:
        return "yes_no"
    words = reference.split()
    if len(words) <= 3 and len(numbers_in(reference)) == 1:
        return "number"
    return "text"


def matches(answer: str, reference: str, sort: Sort, options: Sequence[str] | None) -> bool:
    """Tell whether the final answer of a text is this reference."""
    if sort == "choice":
        return _same_choice(answer, reference, list(options or ()))
    compare: dict[str, Callable[[str, str], bool]] = {
        "number": _same_number,
        "yes_no": _same_yes_no,
        "text": _same_text,
    }
    return compare[sort](answer, reference)


def final_part(answer: str) -> tuple[str, bool]:
    """Find the line of the final answer, and tell whether it is announced."""
    announced = [match.end() for match in _ANNOUNCED.finditer(answer)]
    for place in reversed(announced):
        line = answer[place:].lstrip().split("\n", 1)[0].rstrip("}$ ")
        if line.strip(string.punctuation + " "):
            return line, True
    lines = [line for line in answer.splitlines() if line.strip()]
    return (lines[-1] if lines else ""), False


def _same_choice(answer: str, reference: str, options: list[str]) -> bool:
    wanted = _letter_of(reference, options)
    part, announced = final_part(answer)
    if wanted is None:
        return _same_text(answer, reference)
    alone = _ALONE.match(part)
    if alone is not None:
        return alone.group(1).upper() == wanted
    asserted = _asserted(part)
    letters = [letter for letter in _LETTER.findall(asserted) if _is_choice(letter, asserted, options)]
    if letters:
        return bool((letters[0] if announced else letters[-1]) == wanted)
    named = [place for place, option in enumerate(options) if _plain(_bare(option)) and _says(part, _bare(option))]
    return len(named) == 1 and string.ascii_uppercase[named[0]] == wanted


def _letter_of(reference: str, options: list[str]) -> str | None:
    alone = _ALONE.match(reference)
    if alone is not None:
        return alone.group(1).upper()
    for place, option in enumerate(options[:26]):
        if _plain(reference) in (_plain(option), _plain(_bare(option))):
            return string.ascii_uppercase[place]
    labelled = re.match(r"^\(?([A-Z])[).:]\s", reference)
    return labelled.group(1) if labelled else None


def _bare(option: str) -> str:
    """Strip the letter from an option."""
    return re.sub(r"^\s*\(?[A-Za-z][).:]\s*", "", option)


def _is_choice(letter: str, part: str, options: list[str]) -> bool:
    """Tell whether a capital letter is a choice, and not the word "I" or "A" of a sentence."""
    if options and string.ascii_uppercase.index(letter) >= len(options):
        return False
    return (
        letter not in "AI"
        or re.search(rf"\({letter}\)|\b{letter}[).:,]|\b{letter}\W*$|^\W*{letter}\b(?! [a-z])", part) is not None
    )


def _same_number(answer: str, reference: str) -> bool:
    wanted = numbers_in(reference)
    part = final_part(answer)[0]
    # The last number: "the answer is 3 + 4 = 7" announces a calculation.
    found = numbers_in(_asserted(part if numbers_in(part) else answer))
    return bool(wanted and found) and found[-1].equals(wanted[-1])


def _same_yes_no(answer: str, reference: str) -> bool:
    wanted = _YES[reference.strip().strip(".").casefold()]
    part, announced = final_part(answer)
    part = _asserted(part)
    said = [_YES[word.casefold()] for word in _YES_WORD.findall(part)]
    if not said:
        first = _YES_WORD.match(answer.strip())
        said = [_YES[first.group(1).casefold()]] if first else []
    return bool(said) and (said[0] if announced else said[-1]) == wanted


def _same_text(answer: str, reference: str) -> bool:
    wanted = _plain(reference)
    if not wanted:
        return False
    line, announced = final_part(answer)
    part = _plain(line if _DENIED.search(reference) else _asserted(line))
    if wanted in (part, _plain(line), _plain(answer)):
        return True
    ends = part.startswith(wanted + " ") or part.endswith(" " + wanted)
    return ends if announced else part.endswith(" " + wanted)


def _asserted(text: str) -> str:
    """Leave out of each line what it denies."""
    return "\n".join(_DENIED.sub(" ", line) for line in text.split("\n"))


def _says(text: str, words: str) -> bool:
    return f" {_plain(words)} " in f" {_plain(text)} "


def _plain(text: str) -> str:
    """Lower case, without articles and punctuation at the edges of words, one space between."""
    words = (word.strip(string.punctuation) for word in _ARTICLES.sub(" ", text.casefold()).split())
    return " ".join(word for word in words if word)
