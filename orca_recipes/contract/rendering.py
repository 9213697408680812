"""Settings for rendering a chat template one conversation at a time, where no table of joints covers its text.

What training needs to know beyond the template's own text is little: what ends an answer, under which name reasoning is
read, how arguments of calls are written. It is found out by rendering (`template_ends`), or chosen by the recipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

History = Literal["inference", "kept", "last"]
EmptyThought = Literal["prompt", "reject"]

EXPANSION_LIMIT = 16.0
"""How many times the tokens of a conversation its examples may have, unless the recipe says otherwise."""


KNOWN_MARKS = (
    ("<think>", "</think>"),
    ("<|channel>thought", "<channel|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<mm:think>", "</mm:think>"),
    ("<seed:think>", "</seed:think>"),
    ("<think:opensource>", "</think:opensource>"),
    ("[THINK]", "[/THINK]"),
)
"""What opens and closes a thought, in templates of today."""
MARKS = KNOWN_MARKS[0]
"""The marks of templates that have none of their own."""


@dataclass(frozen=True)
class Rendering:
    """Facts of a template whose conversations are rendered one by one.

    ends: the control tokens at which generation stops, the usual one first; each trained answer ends with one. The
        second is that of calls, and may be the same one behind other text.
    is_printed: whether the template prints them itself. Where not, lead and the first are put behind each answer.
    lead: what stands between an answer and its end. extra: what it prints behind the end where nothing follows; of a
        template that prints no end, all that it prints behind an answer. Of these the lead of a finished answer alone
        is trained.
    reasoning: the key of a message under which it reads reasoning; "content" where that stands in the content between
        marks; "prompt" where it prints no more of it than its beginning, in a prompt; "" where it prints none.
    arguments: whether it wants those of a call as an object or as JSON text.
    contents: whether it wants contents as text, or as lists of parts, as templates for pictures do.
    empty: how it wants the content of a message that calls tools and says nothing: DeepSeek R1's prints an answer of
        no words for "".
    marks: what opens and closes a thought. opens: whether prompts begin with the tokenizer's BOS.
    history: what stands before an answer where earlier turns are printed otherwise than they were trained.
    empty_thought: what becomes of an answer without reasoning where the template wants some.
    each: whether it renders every conversation itself, and none is put together from what it prints around contents.
    """

    ends: tuple[str, ...]
    is_printed: bool
    lead: str = ""
    extra: str = ""
    reasoning: str = ""
    arguments: Literal["object", "text"] = "object"
    contents: Literal["text", "parts"] = "text"
    empty: Literal["text", "null"] = "text"
    marks: tuple[str, str] = MARKS
    opens: bool = False
    history: History = "inference"
    empty_thought: EmptyThought = "prompt"
    each: bool = False

    def as_json(self) -> dict[str, object]:
        """Return the rendering as JSON values, for locks and fingerprints; `empty` and `each` where they are not the
        usual ones."""
        values = {**asdict(self), "ends": list(self.ends), "marks": list(self.marks)}
        usual = {"empty": "text", "each": False}
        return {name: value for name, value in values.items() if name not in usual or value != usual[name]}


def rendering_from_json(values: Mapping[str, Any]) -> Rendering:
    """Read a rendering back from `as_json`."""
    opening, closing = values["marks"]
    return Rendering(**{**values, "ends": tuple(values["ends"]), "marks": (opening, closing)})
