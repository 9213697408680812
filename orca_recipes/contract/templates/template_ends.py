"""Probe a chat template, by rendering conversations of plain words, for facts that training needs beyond its text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import MappingProxyType
from typing import Any, Literal

from orca_recipes.contract.encoder import Vocabulary
from orca_recipes.contract.rendering import KNOWN_MARKS, MARKS, EmptyThought, History, Rendering
from orca_recipes.contract.templates.chat_template import ChatTemplate, Refused
from orca_recipes.contract.templates.dialogues import parts_of
from orca_recipes.errors import TemplateError

# Words that no template prints of itself, so that they mark places in what is rendered.
_ASKED, _SAID, _THOUGHT = "question_words", "answer_words", "thought_words"
_SYSTEM = {"role": "system", "content": "system_words"}
_TOOL, _KEY, _VALUE = "probed_tool", "probed_key", "probed_value"
_REASONING = ("reasoning_content", "thinking", "reasoning")
"""The keys under which templates read reasoning."""

_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": _TOOL,
            "description": "described",
            "parameters": {"type": "object", "properties": {_KEY: {"type": "string"}}, "required": [_KEY]},
        },
    }
]

Messages = Sequence[Mapping[str, Any]]


def rendering_of(
    template: ChatTemplate,
    vocabulary: Vocabulary,
    *,
    terminator: str | None = None,
    history: History = "inference",
    empty_thought: EmptyThought = "prompt",
) -> Rendering:
    """Probe a template for its ends, its reasoning key, its form of call arguments and of contents.

    Args:
        terminator: the control token that ends answers, where the template prints none.
    Raises: TemplateError, with the conversation that shows it, where not even a question with its answer is printed, or
        nothing ends an answer.
    """
    way, before, prompt, after = _dialogue(template)
    ends = _without_header(way, vocabulary, before, _control(vocabulary, after))
    if ends:
        text, extra = _first_end(way, before, after, ends)
        end = next(token for stop, token in ends if stop == len(text))
        if terminator is not None and terminator != end:
            raise TemplateError(
                f"template.terminator: the chat template itself ends an answer by {end}; leave `terminator` out"
            )
        lead = text.removesuffix(end)
    else:
        lead, kept = _end_of_history(way, vocabulary, before, after) if terminator is None else ("", None)
        end, extra = kept or _named_end(vocabulary, terminator, after), after
    marks = _marks(template.text, prompt)
    reasoning = _reasoning(way, before, prompt, marks)
    arguments, empty, call = _form_of_calls(way, before, end)
    called = call.removesuffix(extra).rstrip()
    other = _end_of_call(vocabulary, called) if ends else None
    is_other = other is not None and (other != end or not called.endswith(lead + end))
    return Rendering(
        ends=(end, other) if other is not None and is_other else (end,),
        is_printed=bool(ends),
        lead=lead,
        extra=extra,
        reasoning=reasoning,
        arguments=arguments,
        contents=way.contents,
        empty=empty,
        marks=marks,
        opens=vocabulary.bos is not None and prompt.startswith(vocabulary.bos),
        history=history,
        empty_thought=empty_thought,
    )


@dataclass(frozen=True)
class _Way:
    """A template with the form of input that it prints: contents as text or as lists of parts, with or without
    tools."""

    template: ChatTemplate
    contents: Literal["text", "parts"]
    tools: Sequence[Any] = ()

    @property
    def text(self) -> str:
        return self.template.text

    def render(
        self,
        messages: Messages,
        *,
        generation_prompt: bool = False,
        variables: Mapping[str, Any] = MappingProxyType({}),
    ) -> str:
        if self.contents == "parts":
            messages = [{**one, "content": parts_of(one["content"])} for one in messages]
        given = {**({"tools": self.tools} if self.tools else {}), **variables}
        return self.template.render(messages, generation_prompt=generation_prompt, variables=given)


def _dialogue(template: ChatTemplate) -> tuple[_Way, Messages, str, str]:
    """Find a form of input the template prints; return it, the messages before a plain answer, their prompt, and the
    text after the answer."""
    asked = {"role": "user", "content": _ASKED}
    refusal = ""
    ways = [_Way(template, "text"), _Way(template, "parts"), _Way(template, "text", _TOOLS)]
    for way, before in product(ways, ([asked], [_SYSTEM, asked])):
        try:
            prompt = way.render(before, generation_prompt=True)
            whole = way.render([*before, _answer()])
        except Refused as fault:
            refusal = refusal or f"it says {str(fault)!r}"
            continue
        if whole.count(_SAID) == 1:
            return way, before, prompt, whole.partition(_SAID)[2]
        refusal = refusal or f"it prints the answer {whole.count(_SAID)} times"
    raise TemplateError(
        "no row can be rendered by the tokenizer's chat template: of the conversation user "
        f"{_ASKED!r}, assistant {_SAID!r} {refusal}; use the template kind chatml or plain"
    )


def _marks(text: str, prompt: str) -> tuple[str, str]:
    """Find the marks of a template's thoughts.

    What closes a thought in its prompt is its own; its text may name others, of which it cleans contents. Some put them
    together from pieces, so that the prompt alone shows them.
    """
    closed = (marks for marks in KNOWN_MARKS if prompt.rstrip().endswith(marks[1]))
    shown = (marks for where in (text, prompt) for marks in KNOWN_MARKS if all(mark in where for mark in marks))
    return next(closed, None) or next(shown, MARKS)


def _without_header(
    template: _Way, vocabulary: Vocabulary, before: Messages, ends: Sequence[tuple[int, str]]
) -> Sequence[tuple[int, str]]:
    """Drop the control tokens of a next header, which some templates print right after an answer.

    A token that begins the first message, whatever that is, begins a header.
    """
    began = _rendered(template, [_SYSTEM, before[-1]]).partition(str(_SYSTEM["content"]))[0]
    opening = [token for _, token in _control(vocabulary, began) if token != vocabulary.bos][:1]
    stop = next((at for at, (_, token) in enumerate(ends) if at and token in opening), len(ends))
    return ends[:stop]


def _answer(**keys: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": _SAID, **keys}


def _control(vocabulary: Vocabulary, text: str) -> list[tuple[int, str]]:
    """Find the control tokens of a text, in order, each as (end position, token)."""
    longest_first = sorted(vocabulary.control, key=lambda text: (-len(text), text))
    found = re.finditer("|".join(map(re.escape, longest_first)) or "(?!)", text)
    return [(match.end(), match.group()) for match in found]


def _first_end(template: _Way, before: Messages, after: str, ends: Sequence[tuple[int, str]]) -> tuple[str, str]:
    """Split the text after an answer into the answer's end and the rest, printed only where nothing follows.

    What stands there also where a question follows is the answer's own. Where the two have no end in common, the whole
    of what is printed after a last answer is what a model would generate.
    """
    last = ends[-1][0]
    try:
        longer = template.render([*before, _answer(), {"role": "user", "content": "more_words"}])
    except Refused:
        return after[:last], after[last:]
    following = longer.partition(_SAID)[2]
    shared = [stop for stop, _ in ends if following.startswith(after[:stop])]
    stop = shared[-1] if shared else last
    return after[:stop], after[stop:]


def _named_end(vocabulary: Vocabulary, terminator: str | None, after: str) -> str:
    end = terminator or (None if after.strip() else vocabulary.eos)
    if end is None and after.strip():
        raise TemplateError(
            f"template.terminator: the chat template prints {after!r} after an answer, which holds no control token of "
            "the tokenizer, so that a student would not learn to stop; add it by `add_special_tokens` in [tokenizer], "
            "or name another end by `terminator`"
        )
    if end is None:
        raise TemplateError(
            "template.terminator: the chat template prints no control token after an answer, and the tokenizer names "
            "none that ends a text, so that a student would not learn to stop; name one by `terminator`"
        )
    if end not in vocabulary.control:
        raise TemplateError(
            f"template.terminator: {end} is no control token of the tokenizer; add it by `add_special_tokens` in "
            "[tokenizer]"
        )
    return end


def _end_of_history(template: _Way, vocabulary: Vocabulary, before: Messages, after: str) -> tuple[str, str | None]:
    """Find an answer's end before a further question, for a template that prints nothing at the very end.

    What stands before the first question, too, is the header of the second. Returns: the text before the control token
    that ends the answer, and that token; None where there is none.
    """
    alone = _rendered(template, before).partition(_ASKED)[0]
    longer = _rendered(template, [*before, _answer(), {"role": "user", "content": "more_words"}])
    between = longer.partition(_SAID)[2].partition("more_words")[0]
    size = next(
        (at for at, (a, b) in enumerate(zip(reversed(alone), reversed(between), strict=False)) if a != b),
        min(len(alone), len(between)),
    )
    footer = between[: len(between) - size]
    found = _control(vocabulary, footer)
    if not found or not footer.startswith(after):
        return "", None
    stop, end = found[-1]
    return footer[len(after) : stop - len(end)], end


def _reasoning(template: _Way, before: Messages, prompt: str, marks: tuple[str, str]) -> str:
    """Find the key under which a template reads reasoning; some print it only in an answer that calls a tool."""
    # Nine letters and digits: Mistral's templates refuse ids of calls of another length.
    call = {"id": "call00001", "type": "function", "function": {"name": _TOOL, "arguments": {_KEY: _VALUE}}}
    for beside in ({}, {"tool_calls": [call]}):
        for key in _REASONING:
            said = _answer(**{key: _THOUGHT}, **beside)
            if _THOUGHT in _rendered(template, [*before, said], **({"tools": _TOOLS} if beside else {})):
                return key
    opening, closing = marks
    if closing not in template.text and not prompt.rstrip().endswith(opening):
        return ""
    inline = {"role": "assistant", "content": f"{opening}\n{_THOUGHT}\n{closing}\n\n{_SAID}"}
    if _THOUGHT not in _rendered(template, [*before, inline]):
        return "prompt"
    later = _rendered(template, [*before, inline, {"role": "user", "content": _ASKED}])
    # Marks that are no plain text are a template's own to print, unless it is seen to read them.
    return "content" if opening == MARKS[0] or _THOUGHT not in later else ""


def _form_of_calls(
    template: _Way, before: Messages, end: str
) -> tuple[Literal["object", "text"], Literal["text", "null"], str]:
    """Find the form of call arguments and of no content beside calls that a template wants, and the text it prints of a
    conversation that ends in a call.

    Python's own way of printing an object is no JSON: a template that prints it so expects a text. One that prints
    nothing of a call beside an empty content, or ends an answer of no words behind it, expects null.
    """
    arguments, call = _arguments(dict(_calls(template, before, "")))
    if template.contents == "parts":
        return arguments, "text", call
    others, other = _arguments(dict(_calls(template, before, None)))
    if _KEY in other and (_KEY not in call or call.count(end) > max(other.count(end), 1)):
        return others, "null", other
    return arguments, "text", call


def _arguments(texts: Mapping[str, str]) -> tuple[Literal["object", "text"], str]:
    if _KEY in texts["object"] and f"'{_KEY}'" not in texts["object"]:
        return "object", texts["object"]
    return ("text", texts["text"]) if _KEY in texts["text"] else ("object", texts["object"])


def _calls(template: _Way, before: Messages, content: str | None) -> Iterator[tuple[str, str]]:
    for name, arguments in (("object", {_KEY: _VALUE}), ("text", f'{{"{_KEY}": "{_VALUE}"}}')):
        function = {"name": _TOOL, "arguments": arguments}
        # Nine letters and digits: Mistral's templates refuse ids of calls of another length.
        call = {"id": "call00001", "type": "function", "function": function}
        said = {"role": "assistant", "content": content, "tool_calls": [call]}
        yield name, _rendered(template, [*before, said], tools=_TOOLS)


def _end_of_call(vocabulary: Vocabulary, call: str) -> str | None:
    """Find the control token that ends a call, else None; marks that close what was opened end no answer."""
    text = call.rstrip()
    found = _control(vocabulary, text)
    if not found or found[-1][0] != len(text) or found[-1][1].startswith(("</", "[/")):
        return None
    return found[-1][1]


def _rendered(template: _Way, messages: Messages, **variables: Any) -> str:
    """Render messages, or return "" where the template refuses them."""
    try:
        return template.render(messages, variables=variables)
    except Refused:
        return ""
