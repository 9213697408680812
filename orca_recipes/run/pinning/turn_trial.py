"""Does the template itself, rendered a conversation at a time, train what inference sees? Tried before a build.

Dialogues of plain words, with and without system message, reasoning, tools and calls: of each the build's ids before
every answer are held against those of inference. What a template has no place for is no fault; one that renders none of
the plain dialogues is refused with the first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from orca_recipes.contract.ending import ending_of
from orca_recipes.contract.kinds import Encoder
from orca_recipes.contract.markup import Markup
from orca_recipes.contract.templates.dialogues import Dialogue
from orca_recipes.errors import TemplateError
from orca_recipes.run.renderers.inference import Inference
from orca_recipes.run.renderers.turn_renderer import TurnRenderer

_PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_FUNCTION = {"name": "get_weather", "description": "Tell the weather", "parameters": _PARAMETERS}
_TOOLS = ({"type": "function", "function": _FUNCTION},)
# Mistral's templates refuse ids of calls that are not nine letters and digits.
_CALL = [{"id": "call00001", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Oslo"}}}]
_SYSTEM = {"role": "system", "content": "be brief"}


def turns_held(markup: Markup, encoder: Encoder, tokenizer: Path) -> tuple[int, int]:
    """Try the dialogues; count all of them, and the trainable ones.

    Raises: TemplateError where none of the plain ones can.
    """
    assert markup.rendering is not None
    named = ending_of(markup, encoder).named(encoder.vocabulary)
    renderer = TurnRenderer(markup.rendering, encoder, Inference(tokenizer, markup.chat_template, named))
    tried = dict(enumerate([*_plain(), *_holding_more()]))
    found = renderer.render(tried, check=np.zeros(len(tried), dtype=bool), exact=False)
    if len(found.reasons) == len(tried):
        told = ", ".join(f"{message['role']} {message['content']!r}" for message in tried[0].messages)
        raise TemplateError(
            f"no row can be trained on with the tokenizer's chat template: of the conversation {told}: "
            f"{found.reasons[0]}; use the template kind chatml or plain"
        )
    return len(tried), len(tried) - len(found.reasons)


def _plain() -> Iterator[Dialogue]:
    for turns in (1, 2, 3):
        messages = [message for turn in range(turns) for message in _turn(turn)]
        yield Dialogue(messages)
        yield Dialogue([_SYSTEM, *messages])


def _holding_more() -> Iterator[Dialogue]:
    thought = {"reasoning": "some thought"}
    yield Dialogue([*_turn(0, **thought)])
    yield Dialogue([*_turn(0, **thought), *_turn(1, **thought)])
    asked, _ = _turn(0)
    call = {"role": "assistant", "content": "", "tool_calls": json.dumps(_CALL), "trained": True}
    reply = {"role": "tool", "content": "4 C", "tool_call_id": "call00001", "name": "get_weather"}
    said = {"role": "assistant", "content": "It is 4 C.", "trained": True}
    for system in ([], [_SYSTEM]):
        yield Dialogue([*system, *_turn(0)], _TOOLS)
        yield Dialogue([*system, asked, call, reply, said], _TOOLS)


def _turn(number: int, **more: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    answer = {"role": "assistant", "content": f"some answer {number}", "trained": True, **more}
    return {"role": "user", "content": f"some question {number}"}, answer
