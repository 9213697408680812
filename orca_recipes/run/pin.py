"""Pin every moving name of a recipe: file digests, versions, the tokenizer as resolved, the template as taken apart.

The tokenizer and the template are stages of the store already, because their results are what the pins speak of; a
build that finds them there imports nothing heavy.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from orca_recipes.contract.markup import Markup, markup_from_json
from orca_recipes.plan.compile import add_student, used_collections, used_kinds
from orca_recipes.plan.fingerprint import digest_of
from orca_recipes.plan.pins import MessagePin, Pins, SourcePin
from orca_recipes.plan.stages import PlanBuilder
from orca_recipes.recipe.model import Recipe
from orca_recipes.run.aside import Aside
from orca_recipes.run.claims import Say, quiet
from orca_recipes.run.conformance import conform
from orca_recipes.run.digests import FileDigests, Pinned, unchanged
from orca_recipes.run.loaded import opened
from orca_recipes.run.placed import placed
from orca_recipes.run.sealed import flush, write_sealed
from orca_recipes.run.store import StageFolder, Store
from orca_recipes.shards.digests import file_digest

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Student:
    """What the student's tokens are made with.

    folder: the tokenizer as resolved. verdict: how the fast tokenizer fared against the reference.
    conformance: how training fared against inference on generated conversations.
    control: control tokens by text. size: of the vocabulary with added tokens.
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


def pin_recipe(
    recipe: Recipe,
    store: Store,
    *,
    messages: Mapping[str, MessagePin] | None = None,
    rehash: bool = False,
    say: Say = quiet,
    workers: int = 1,
    ready: Callable[[Path], None] = lambda folder: None,
) -> tuple[Pins, Student]:
    """Pin a recipe as the world is now.

    Args:
        messages: the pins of the sets of system messages that it uses.
        say: hears that another build is waited for, or that the store is mended.
        workers: with more than one, source files are hashed while the student is pinned.
        ready: called with the folder of the tokenizer once it is there, while the template is yet to be pinned.
    """
    digests = FileDigests(store.root / "digests.sqlite", rehash=rehash)
    sources = Aside(partial(_pin_sources, recipe, digests))
    if workers == 1:
        sources.result()
    try:
        with placed("tokenizer"):
            files = digests.stamped(recipe.tokenizer.files())
        tokenizer = SourcePin(tuple(found.pin for found in files))
        student, tokenizer_digest = _student(recipe, tokenizer, files, store, say, ready)
    except Exception:
        sources.result()  # a fault of a source is told before one of the student, whichever came first
        raise
    collections = sources.result()
    pins = Pins(
        collections=collections,
        tokenizer=tokenizer,
        tokenizer_digest=tokenizer_digest,
        template="blake2b:" + digest_of(student.markup.as_json()),
        kinds={name: type(kind).revision for name, kind in sorted(used_kinds(recipe).items())},
        system_messages=messages or {},
    )
    return pins, student


def _pin_sources(recipe: Recipe, digests: FileDigests) -> dict[str, SourcePin]:
    found = {}
    for name in used_collections(recipe):
        source = recipe.collections[name]
        with placed(f"collections.{name}"):
            found[name] = SourcePin(digests.pin(source.files()), dict(source.pins()))
    return found


def _student(
    recipe: Recipe,
    pin: SourcePin,
    files: Sequence[Pinned],
    store: Store,
    say: Say,
    ready: Callable[[Path], None],
) -> tuple[Student, str]:
    builder = PlanBuilder()
    tokenizer, template = (builder.plan()[name] for name in add_student(builder, recipe, pin))
    with store.working_on(tokenizer, say) as folder:
        if not folder.is_sound(tokenizer.name, say):
            _materialize(recipe, files, folder)
    ready(folder.path)
    with store.working_on(template, say) as made:
        if not made.is_sound(template.name, say):
            _take_apart(recipe, folder.path, made)
    facts = made.receipt["report"]
    return Student(folder.path, markup_from_json(facts["markup"]), **facts["vocabulary"]), folder.receipt["report"][
        "digest"
    ]


def _materialize(recipe: Recipe, pinned: Sequence[Pinned], folder: StageFolder) -> None:
    aside = folder.path / ".making"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    with unchanged(pinned):
        recipe.tokenizer.materialize(files=[found.file for found in pinned], folder=aside)
    files = []
    for name in TOKENIZER_FILES:
        flush(aside / name)
        digest = file_digest(aside / name)
        (aside / name).replace(folder.path / name)
        files.append({"name": name, "bytes": (folder.path / name).stat().st_size, "digest": digest})
    shutil.rmtree(aside)
    write_sealed(folder.path / "made.json", {"files": files, "report": {}})
    folder.finish(["made"], {"digest": "blake2b:" + digest_of([[file["name"], file["digest"]] for file in files])})


def _take_apart(recipe: Recipe, tokenizer: Path, folder: StageFolder) -> None:
    encoder = opened(recipe.tokenizer, tokenizer)
    vocabulary = encoder.vocabulary
    with placed("template"):
        markup = recipe.template.markup(vocabulary=vocabulary)
        conformance = conform(markup=markup, encoder=encoder, tokenizer=tokenizer / TOKENIZER_FILES[0])
    facts: dict[str, Any] = {
        "size": vocabulary.size,
        "control": dict(vocabulary.control),
        "bos": vocabulary.bos,
        "eos": vocabulary.eos,
        "pad": vocabulary.pad,
        "verdict": encoder.verdict(),
        "conformance": conformance,
    }
    folder.finish([], {"markup": markup.as_json(), "vocabulary": facts})
