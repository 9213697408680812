"""Texts a template could mistake content for: the tags it prints, and the words it looks for in messages.

A message that holds one is where training and inference part, if they do: most templates print every content word for
word, and those that do not cut it at a text that stands in their jinja.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from orca_recipes.contract.markup import Markup
from orca_recipes.contract.templates.chat_template import literals

_SIGNS = re.compile(r"[<>\[\]{}|#]")
_SHORTEST = 3
"""Shorter texts, and those of letters alone, stand in every other message."""


def markers(markup: Markup) -> list[str]:
    """List the template's telling texts, sorted, none of which holds another."""
    fixed = [text for joint in markup.joints.values() for text in (joint.footer, joint.header)]
    printed = [markup.terminator, markup.answer_prefix, *fixed]
    found = {text for text in map(str.strip, [*printed, *literals(markup.chat_template)]) if _is_telling(text)}
    return sorted(_shortest(found))


def _is_telling(text: str) -> bool:
    return len(text) >= _SHORTEST and _SIGNS.search(text) is not None


def _shortest(texts: set[str]) -> Iterator[str]:
    for text in texts:
        if not any(other in text for other in texts if other != text):
            yield text
