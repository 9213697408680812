"""Read the tokenizer's own chat template, as a table of the texts around messages if that is possible.

Those texts are used only if they give, character by character, what the template prints, on conversations made to show
where it does more than join them. Of any other template every row is rendered as inference would render each of its
turns, and so is a row that holds more than plain messages. Clock and variables are pinned: the jinja text that is
shipped has them in its first lines.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, JsonValue

from orca_plugins.templates.from_tokenizer.dissection import CANNOT
from orca_plugins.templates.from_tokenizer.dissection_trial import samples
from orca_plugins.templates.from_tokenizer.joints import markup_of
from orca_plugins.templates.from_tokenizer.kept_history import keeping_history
from orca_plugins.templates.from_tokenizer.probe_renders import Probes
from orca_plugins.templates.from_tokenizer.sandbox import ChatTemplate, Refused, pinned
from orca_recipes.contract.kinds import Template, Vocabulary
from orca_recipes.contract.markup import Markup
from orca_recipes.contract.rendering import EXPANSION_LIMIT, EmptyThought, Rendering
from orca_recipes.contract.templates.template_ends import rendering_of
from orca_recipes.errors import TemplateError

_OURS = ("messages", "add_generation_prompt")
_GIVEN = ("tools", "documents")
"""Variables that inference always sets, to nothing where it has none."""
_ROLES = (("user",), ("system", "user"), ("user", "assistant"), ("user", "assistant", "user"))


def _iso_date(text: str) -> str:
    datetime.date.fromisoformat(text)
    return text


def _free_names(variables: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    for name in variables:
        if not name.isidentifier() or name in _OURS:
            raise ValueError(f"{name} is no name of a template's variable that a recipe may set")
    return variables


class FromTokenizer(Template):
    """The chat template that the tokenizer brings.

    [template]
    kind = "from_tokenizer"
    date = "2024-07-26"
    variables = { enable_thinking = false }
    history = "inference"
    empty_thought = "prompt"
    """

    revision: ClassVar[int] = 9

    kind: Literal["from_tokenizer"] = "from_tokenizer"
    date: Annotated[
        str | None,
        AfterValidator(lambda text: text and _iso_date(text)),
        Field(description="the day that a template with a clock prints"),
    ] = None
    variables: Annotated[
        dict[str, JsonValue], AfterValidator(_free_names), Field(description="variables of the template, by name")
    ] = {}
    history: Annotated[
        Literal["inference", "kept", "last"],
        Field(
            description="what an answer stands behind where the template prints earlier turns otherwise than they were "
            'trained: "inference" makes one example a turn, "kept" prints and ships a template that keeps their '
            'reasoning, "last" trains the last exchange alone'
        ),
    ] = "inference"
    empty_thought: Annotated[
        EmptyThought,
        Field(
            description="an answer without reasoning, where the template wants some: an empty thought stands in its "
            'prompt, untrained, or the row is rejected ("reject")'
        ),
    ] = "prompt"
    expansion_limit: Annotated[
        float,
        Field(
            gt=1,
            description="how many times the tokens of a conversation its examples may have, where each turn has one",
        ),
    ] = EXPANSION_LIMIT
    terminator: Annotated[
        str | None,
        Field(description="control token that ends answers where the template prints none; else the tokenizer's eos"),
    ] = None
    render_each: Annotated[
        bool,
        Field(
            description="render every row with the template itself, and reject those that it refuses: slower, for "
            "templates that judge more of a text than its role and words (its length, say)"
        ),
    ] = False

    def markup(self, *, vocabulary: Vocabulary) -> Markup:
        """Build the markup. Raises: TemplateError, with the case, where no row can be trained as inference would see
        it."""
        if vocabulary.chat_template is None:
            raise TemplateError("the tokenizer brings no chat template; use the template kind chatml or plain")
        today = None if self.date is None else datetime.date.fromisoformat(self.date)
        names = vocabulary.told()
        template, rendering = self._rendering(vocabulary, names, today)
        if self.history == "kept":

            def make(text: str) -> ChatTemplate:
                return ChatTemplate(text, {**names, **self.variables}, today)

            kept = keeping_history(vocabulary.chat_template, make, rendering)
            vocabulary = replace(vocabulary, chat_template=kept)
            template, rendering = self._rendering(vocabulary, names, today)
        assert vocabulary.chat_template is not None
        probes = Probes(template)
        markup = markup_of(probes, vocabulary, rendering)
        _check_spaces(template, markup, vocabulary)
        template.ask_dates()
        shipped = _shipped_names(vocabulary, markup)
        moved = {name: names.get(name, "") for name in shipped if shipped[name] != names.get(name)}
        used = {name: text for name, text in moved.items() if name in vocabulary.chat_template}
        held = {name: value for name, value in self.variables.items() if name in (*names, *_GIVEN)}
        free = {name: value for name, value in self.variables.items() if name not in held}
        text = pinned(vocabulary.chat_template, {**used, **held}, free, template.dates)
        _check_pinned(ChatTemplate(text, shipped, None), probes, markup)
        return replace(markup, chat_template=text)

    def most_expansion(self) -> float:
        return self.expansion_limit

    def identity(self) -> dict[str, Any]:
        """Identify the template without `expansion_limit` (it decides no token), and `render_each` where it is off."""
        left = {"expansion_limit"} | (set() if self.render_each else {"render_each"})
        return {name: value for name, value in super().identity().items() if name not in left}

    def _rendering(
        self, vocabulary: Vocabulary, names: Mapping[str, Any], today: datetime.date | None
    ) -> tuple[ChatTemplate, Rendering]:
        template = ChatTemplate(str(vocabulary.chat_template), {**names, **self.variables}, today)
        rendering = rendering_of(
            template,
            vocabulary,
            terminator=self.terminator,
            history=self.history,
            empty_thought=self.empty_thought,
        )
        return template, replace(rendering, each=self.render_each)


def _shipped_names(vocabulary: Vocabulary, markup: Markup) -> dict[str, Any]:
    """Return the variables that transformers will give the shipped template: its eos is the end of answers."""
    # The longest, since a token's text may end with another's.
    end = max((text for text in vocabulary.control if markup.terminator.endswith(text)), key=len)
    shipped = replace(vocabulary, eos=end, pad=vocabulary.pad or vocabulary.eos or end)
    return shipped.told()


def _check_spaces(template: ChatTemplate, markup: Markup, vocabulary: Vocabulary) -> None:
    texts = [template.text, markup.terminator, markup.answer_prefix]
    texts += [text for joint in markup.joints.values() for text in (joint.footer, joint.header)]
    texts += [text for roles in _ROLES for text in _printed(template, roles)]
    for token in sorted(vocabulary.eats_space):
        if any(token in text for text in texts):
            raise TemplateError(
                f"{CANNOT}it uses {token}, which swallows white space beside it (lstrip, rstrip), so that the "
                "tokens of a content depend on it; use the template kind chatml or plain with other tokens"
            )


def _printed(template: ChatTemplate, roles: Sequence[str]) -> list[str]:
    """Render a conversation of plain words, without and with the prompt for an answer; nothing where it is refused."""
    try:
        return [
            template.render([{"role": role, "content": "words"} for role in roles], generation_prompt=prompt)
            for prompt in (False, True)
        ]
    except Refused:
        return []


def _check_pinned(shipped: ChatTemplate, probes: Probes, markup: Markup) -> None:
    """Check that the shipped text prints the same without clock and variables."""
    for messages in [*samples(probes, markup), *map(probes.words, _ROLES)]:
        for prompt in (False, True):
            try:
                expected = probes.template.render(messages, generation_prompt=prompt)
            except Refused:
                continue
            try:
                found = shipped.render(messages, generation_prompt=prompt)
            except Refused as refusal:
                found = str(refusal)
            if found != expected:
                raise TemplateError(
                    f"{CANNOT}it sets its variables anew, so that `date` and `variables` cannot be pinned in it"
                )
