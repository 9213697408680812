"""What the student's tokens are made with: the tokenizer as resolved, the template as taken apart and tried.

To try a template takes the loaded tokenizer and is a piece of work that any process can do: a large build hands it to a
worker, which needs the tokenizer anyway, so that the process that pins and packs never loads one.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orca_recipes.contract.kinds import Template, Tokenizer
from orca_recipes.contract.markup import Markup
from orca_recipes.plan.fingerprint import digest_of
from orca_recipes.run.conformance import conform
from orca_recipes.run.digests import Pinned, unchanged
from orca_recipes.run.ending import Ending, ending_of
from orca_recipes.run.loaded import opened
from orca_recipes.run.placed import placed
from orca_recipes.run.sealed import flush, write_sealed
from orca_recipes.run.store import StageFolder
from orca_recipes.shards.digests import file_digest

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Student:
    """What the student's tokens are made with.

    folder: the tokenizer as resolved. verdict: how the fast tokenizer fared against the reference.
    conformance: how training fared against inference on generated conversations.
    control: control tokens by text. size: of the vocabulary with added tokens. ending: the end of answers.
    """

    folder: Path
    markup: Markup
    size: int
    control: Mapping[str, int]
    bos: str | None
    pad: str | None
    eos: str | None
    verdict: str
    conformance: str
    ending: Ending


@dataclass(frozen=True)
class Dissecting:
    """A template to take apart into a stage of the store; resolved: the folder of the tokenizer."""

    tokenizer: Tokenizer
    template: Template
    resolved: Path
    folder: StageFolder


def resolve(tokenizer: Tokenizer, pinned: Sequence[Pinned], folder: StageFolder) -> None:
    """Make stage `tokenizer` of its files. Raises: SourceError where one changes meanwhile; TokenizerError."""
    aside = folder.path / ".making"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    with unchanged(pinned):
        tokenizer.materialize(files=[found.file for found in pinned], folder=aside)
    files = []
    for name in TOKENIZER_FILES:
        flush(aside / name)
        digest = file_digest(aside / name)
        (aside / name).replace(folder.path / name)
        files.append({"name": name, "bytes": (folder.path / name).stat().st_size, "digest": digest})
    shutil.rmtree(aside)
    write_sealed(folder.path / "made.json", {"files": files, "report": {}})
    folder.finish(["made"], {"digest": "blake2b:" + digest_of([[file["name"], file["digest"]] for file in files])})


def take_apart(task: Dissecting) -> None:
    """Make stage `template`. Raises: TemplateError, TokenizerError, as `conform`."""
    encoder = opened(task.tokenizer, task.resolved)
    vocabulary = encoder.vocabulary
    with placed("template"):
        markup = task.template.markup(vocabulary=vocabulary)
        conformance = conform(markup=markup, encoder=encoder, tokenizer=task.resolved / TOKENIZER_FILES[0])
    facts: dict[str, Any] = {
        "size": vocabulary.size,
        "control": dict(vocabulary.control),
        "bos": vocabulary.bos,
        "eos": vocabulary.eos,
        "pad": vocabulary.pad,
        "verdict": encoder.verdict(),
        "conformance": conformance,
        "ending": asdict(ending_of(markup, encoder)),
    }
    task.folder.finish([], {"markup": markup.as_json(), "vocabulary": facts})
