"""The tokenizer's own chat template, taken apart into the texts that stand around messages.

A template is used only if those texts give, character by character, what the template prints, on conversations made to
show where it does more than join them. Its clock and its variables are pinned: the jinja text that is shipped has them
in its first lines.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, JsonValue

from orca_plugins.templates.from_tokenizer.dissection import CANNOT, take_apart, with_contents
from orca_plugins.templates.from_tokenizer.dissection_trial import lasting, proven, samples
from orca_plugins.templates.from_tokenizer.probe_renders import Probes
from orca_plugins.templates.from_tokenizer.sandbox import ChatTemplate, Refused, pinned
from orca_recipes.contract.kinds import Template, Vocabulary
from orca_recipes.contract.markup import Markup
from orca_recipes.errors import TemplateError

_OURS = ("messages", "add_generation_prompt")


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
    """

    revision: ClassVar[int] = 3

    kind: Literal["from_tokenizer"] = "from_tokenizer"
    date: Annotated[
        str | None,
        AfterValidator(lambda text: text and _iso_date(text)),
        Field(description="the day that a template with a clock prints"),
    ] = None
    variables: Annotated[
        dict[str, JsonValue], AfterValidator(_free_names), Field(description="variables of the template, by name")
    ] = {}

    def markup(self, *, vocabulary: Vocabulary) -> Markup:
        """The markup. Raises: TemplateError, with the case, where the template does more than join texts."""
        if vocabulary.chat_template is None:
            raise TemplateError("the tokenizer brings no chat template; use the template kind chatml or plain")
        today = None if self.date is None else datetime.date.fromisoformat(self.date)
        names = _special_tokens(vocabulary)
        template = ChatTemplate(vocabulary.chat_template, {**names, **self.variables}, today)
        probes = Probes(template)
        markup = lasting(probes, take_apart(probes, vocabulary))
        markup = proven(probes, with_contents(probes, markup, vocabulary))
        _check_spaces(markup, vocabulary)
        shipped = _shipped_names(vocabulary, markup)
        moved = {name: names.get(name, "") for name in shipped if shipped[name] != names.get(name)}
        used = {name: text for name, text in moved.items() if name in vocabulary.chat_template}
        text = pinned(vocabulary.chat_template, {**used, **self.variables}, template.dates)
        _check_pinned(ChatTemplate(text, shipped, None), probes, markup)
        return replace(markup, chat_template=text)


def _special_tokens(vocabulary: Vocabulary) -> dict[str, Any]:
    """What transformers tells a template of its tokenizer."""
    names = {"bos_token": vocabulary.bos, "eos_token": vocabulary.eos, "pad_token": vocabulary.pad}
    return {name: text for name, text in names.items() if text is not None}


def _shipped_names(vocabulary: Vocabulary, markup: Markup) -> dict[str, Any]:
    """What transformers will tell the template of the tokenizer as shipped, whose end is that of answers."""
    end = max((text for text in vocabulary.control if markup.terminator.endswith(text)), key=len)
    shipped = replace(vocabulary, eos=end, pad=vocabulary.pad or vocabulary.eos or end)
    return _special_tokens(shipped)


def _check_spaces(markup: Markup, vocabulary: Vocabulary) -> None:
    texts = [markup.terminator, markup.answer_prefix]
    texts += [text for joint in markup.joints.values() for text in (joint.footer, joint.header)]
    for token in sorted(vocabulary.eats_space):
        if any(token in text for text in texts):
            raise TemplateError(
                f"{CANNOT}it uses {token}, which swallows white space beside it (lstrip, rstrip), so that the "
                "tokens of a content depend on it; use the template kind chatml or plain with other tokens"
            )


def _check_pinned(shipped: ChatTemplate, probes: Probes, markup: Markup) -> None:
    """The text that is shipped prints the same without clock and variables."""
    for messages in samples(probes, markup):
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
