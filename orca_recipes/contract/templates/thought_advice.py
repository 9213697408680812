"""Advice for a thought behind a prompt that closes it: the variable of the template under which the row is trained."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from typing import Any

from orca_recipes.contract.encoder import Vocabulary
from orca_recipes.contract.rendering import Rendering
from orca_recipes.contract.templates.chat_template import ChatTemplate
from orca_recipes.contract.templates.dialogues import Dialogue, Unfit
from orca_recipes.contract.templates.template_ends import rendering_of
from orca_recipes.contract.templates.turn_texts import SWITCHES, TurnWriter
from orca_recipes.errors import TemplateError


class ThoughtAdvice:
    """A template as it would be with other variables."""

    def __init__(self, template: ChatTemplate, rendering: Rendering, vocabulary: Vocabulary) -> None:
        self._template = template
        self._rendering = rendering
        self._vocabulary = vocabulary
        # A decorator's cache would be one for all instances and keep them alive.
        self._writer = lru_cache(maxsize=None)(self._made)

    def advice(self, dialogue: Dialogue) -> str:
        """Say what to do for a conversation to be trained: "" where no variable that we know of helps."""
        for name, on, _ in SWITCHES:
            is_told = name in dialogue.variables
            tried = {key: value for key, value in dialogue.variables.items() if key != name}
            try:
                writer = self._writer(name, on)
                if writer is None:
                    continue
                writer.turns(replace(dialogue, variables=tried))
            except Unfit:
                continue
            if is_told:
                return f"; its chat_template_kwargs say {name} = {json.dumps(dialogue.variables[name])}"
            return f"; set variables = {{ {name} = {json.dumps(on)} }} in [template]"
        return ""

    def _made(self, name: str, on: Any) -> TurnWriter | None:
        template = self._template.with_variables({name: on})
        known = self._rendering
        try:
            rendering = rendering_of(
                template,
                self._vocabulary,
                terminator=None if known.is_printed else known.ends[0],
                history=known.history,
                empty_thought=known.empty_thought,
            )
        except TemplateError:
            return None
        return TurnWriter(template, rendering, self._vocabulary.control, self._vocabulary.bos)
