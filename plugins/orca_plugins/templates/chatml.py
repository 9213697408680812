"""ChatML: every message between two control tokens, its role named in its first line."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from orca_plugins.templates.turns import Turn, control_token, opening_token, turns_markup
from orca_recipes.contract.kinds import Template, Vocabulary
from orca_recipes.contract.markup import Markup

_ROLES = ("system", "user", "assistant", "tool")


class ChatML(Template):
    """ChatML, as OpenAI wrote it down: `<|im_start|>role`, a line end, the content, `<|im_end|>`.

    [template]
    kind = "chatml"
    default_system = "You are a helpful assistant."
    """

    kind: Literal["chatml"] = "chatml"
    start: Annotated[str, Field(min_length=1, description="control token before each message")] = "<|im_start|>"
    end: Annotated[str, Field(min_length=1, description="control token after each message")] = "<|im_end|>"
    bos: Annotated[bool, Field(description="begin each conversation with the tokenizer's bos")] = False
    default_system: Annotated[
        str | None, Field(description="what a system message says where the conversation has none")
    ] = None

    @model_validator(mode="after")
    def _two_tokens(self) -> ChatML:
        if self.start == self.end:
            raise ValueError(
                "`start` and `end` must be two tokens, or nothing tells an answer's end from a message's start"
            )
        return self

    def markup(self, *, vocabulary: Vocabulary) -> Markup:
        """Build the markup. Raises: TemplateError where the tokenizer lacks the control tokens."""
        start = control_token(vocabulary, self.start, "start")
        end = control_token(vocabulary, self.end, "end")
        turns = {role: Turn(header=f"{start}{role}\n", footer=f"{end}\n") for role in _ROLES}
        turns["assistant"] = Turn(header=f"{start}assistant\n", footer="\n")
        opening = opening_token(vocabulary, self.bos)
        return turns_markup(turns, opening=opening, terminator=end, default_system=self.default_system)
