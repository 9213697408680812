"""A template as a table of joints, where such a table gives its output character by character."""

from __future__ import annotations

from dataclasses import replace

from orca_plugins.templates.from_tokenizer.dissection import take_apart, with_contents
from orca_plugins.templates.from_tokenizer.dissection_trial import lasting, proven
from orca_plugins.templates.from_tokenizer.probe_renders import Probes
from orca_recipes.contract.kinds import Vocabulary
from orca_recipes.contract.markup import Markup
from orca_recipes.contract.rendering import Rendering
from orca_recipes.errors import TemplateError


def joints_of(probes: Probes, vocabulary: Vocabulary) -> Markup:
    """Take the template apart. Raises: TemplateError, with the case, where it does more than join texts."""
    return proven(probes, with_contents(probes, lasting(probes, take_apart(probes, vocabulary)), vocabulary))


def markup_of(probes: Probes, vocabulary: Vocabulary, rendering: Rendering) -> Markup:
    """Take the template apart, and add how it is rendered whole; without joints where it cannot be taken apart, or
    is to render each row itself."""
    whole = Markup(joints={}, terminator=rendering.ends[0], chat_template="", rendering=rendering)
    if rendering.each:
        return whole
    try:
        markup = joints_of(probes, vocabulary)
    except TemplateError:
        return whole
    closes_thought = rendering.marks[1] in markup.answer_prefix
    is_same = markup.terminator.endswith(rendering.ends[0]) and not closes_thought
    return replace(markup, rendering=rendering) if is_same else whole
