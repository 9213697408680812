"""Plain texts around messages, for models that know no chat tokens; only the end of an answer is a control token."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from orca_plugins.templates.turns import Turn, control_token, opening_token, turns_markup
from orca_recipes.contract.kinds import Template, Vocabulary
from orca_recipes.contract.markup import Markup
from orca_recipes.errors import TemplateError


class Plain(Template):
    """Headers and footers of the recipe around each role's messages; the defaults are Alpaca's.

    [template]
    kind = "plain"
    system = { header = "", footer = "\\n\\n" }
    user = { header = "### Instruction:\\n", footer = "\\n\\n" }
    assistant = { header = "### Response:\\n", footer = "\\n\\n" }
    """

    revision: ClassVar[int] = 3

    kind: Literal["plain"] = "plain"
    system: Annotated[Turn, Field(description="what stands around system messages")] = Turn(footer="\n\n")
    user: Annotated[Turn, Field(description="what stands around user messages")] = Turn(
        header="### Instruction:\n", footer="\n\n"
    )
    assistant: Annotated[
        Turn,
        Field(description="what stands around answers; the footer follows the terminator and may end it"),
    ] = Turn(header="### Response:\n", footer="\n\n")
    tool: Annotated[
        Turn | None, Field(description="what stands around tool messages, which are refused without it")
    ] = None
    terminator: Annotated[
        str | None, Field(description="control token that ends an answer; the tokenizer's eos if unset")
    ] = None
    bos: Annotated[bool, Field(description="begin each conversation with the tokenizer's bos")] = False

    def markup(self, *, vocabulary: Vocabulary) -> Markup:
        """Build the markup. Raises: TemplateError where the tokenizer lacks a token that ends an answer."""
        turns = {"system": self.system, "user": self.user, "assistant": self.assistant}
        if self.tool is not None:
            turns["tool"] = self.tool
        _check_texts(turns, vocabulary)
        opening = opening_token(vocabulary, self.bos)
        # Control tokens of the footer are part of the end that is learnt; what follows them is not.
        cut = _last_control_end(self.assistant.footer, vocabulary)
        terminator = self._terminator(vocabulary) + self.assistant.footer[:cut]
        turns["assistant"] = Turn(header=self.assistant.header, footer=self.assistant.footer[cut:])
        return turns_markup(turns, opening=opening, terminator=terminator)

    def _terminator(self, vocabulary: Vocabulary) -> str:
        text = self.terminator or vocabulary.eos
        if text is None:
            raise TemplateError(
                "template.terminator: the tokenizer names no token that ends a text; "
                "give one of its control tokens as `terminator`"
            )
        return control_token(vocabulary, text, "terminator")


def _last_control_end(text: str, vocabulary: Vocabulary) -> int:
    """Find the end of the last control token in a text, 0 where there is none."""
    return max((text.rfind(token) + len(token) for token in vocabulary.control if token in text), default=0)


def _check_texts(turns: dict[str, Turn], vocabulary: Vocabulary) -> None:
    """Refuse a control token in a recipe's header or footer if it changes the text around it."""
    for role, turn in turns.items():
        for text in sorted(vocabulary.eats_space):
            if text in turn.header or text in turn.footer:
                control_token(vocabulary, text, role)
