"""Verb `template`: take the chat template apart and try it with the student's tokenizer.

To try a template takes the loaded tokenizer and is a piece of work that any process can do: a large build hands it to a
worker, which needs the tokenizer anyway, so that the process that pins and packs never loads one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orca_recipes.contract.ending import Ending, ending_of
from orca_recipes.contract.kinds import Encoder, Template, Tokenizer
from orca_recipes.contract.markup import Markup
from orca_recipes.errors import TemplateError
from orca_recipes.run.pinning.template_trial import conform, reads_answers_anew
from orca_recipes.run.work.blame import of_kind, placed
from orca_recipes.run.work.loaded_tokenizer import opened
from orca_recipes.run.work.student import TOKENIZER_FILES
from orca_recipes.store.stage_folder import StageFolder


@dataclass(frozen=True)
class Dissecting:
    """A template to take apart into a stage of the store; resolved: the folder of the tokenizer."""

    tokenizer: Tokenizer
    template: Template
    resolved: Path
    folder: StageFolder


def _tried(markup: Markup, encoder: Encoder, tokenizer: Path) -> tuple[Markup, str]:
    """Try the markup and return it with the verdict; if its joints fail, or inference reads earlier answers anew, the
    template itself renders every row.

    Raises: TemplateError, TokenizerError, as `conform`.
    """
    try:
        verdict = conform(markup=markup, encoder=encoder, tokenizer=tokenizer)
        if markup.rendering is None or not reads_answers_anew(markup=markup, encoder=encoder, tokenizer=tokenizer):
            return markup, verdict
    except TemplateError:
        if markup.rendering is None or not markup.joints:
            raise
    ends, template = markup.rendering.ends, markup.chat_template
    whole = Markup(joints={}, terminator=ends[0], chat_template=template, rendering=markup.rendering)
    return whole, conform(markup=whole, encoder=encoder, tokenizer=tokenizer)


def ending_facts(ending: Ending) -> dict[str, Any]:
    """Encode an ending as facts of the stage; its other ends only if it has some."""
    facts = asdict(ending)
    return facts if ending.others else {name: fact for name, fact in facts.items() if name != "others"}


def take_apart(task: Dissecting) -> None:
    """Make stage `template`. Raises: TemplateError, TokenizerError, as `conform`."""
    encoder = opened(task.tokenizer, task.resolved)
    vocabulary = encoder.vocabulary
    with placed("template"), of_kind(task.template):
        markup = task.template.markup(vocabulary=vocabulary)
        markup, conformance = _tried(markup, encoder, task.resolved / TOKENIZER_FILES[0])
    facts: dict[str, Any] = {
        "size": vocabulary.size,
        "control": dict(vocabulary.control),
        "bos": vocabulary.bos,
        "eos": vocabulary.eos,
        "pad": vocabulary.pad,
        "verdict": encoder.verdict(),
        "conformance": conformance,
        "ending": ending_facts(ending_of(markup, encoder)),
    }
    task.folder.finish([], {"markup": markup.as_json(), "vocabulary": facts})
