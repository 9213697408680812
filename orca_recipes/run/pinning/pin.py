"""Pin every moving name of a recipe: file digests, versions, the tokenizer as resolved, the template as taken apart.

The tokenizer and the template are stages of the store already, because their results are what the pins speak of; a
build that finds them there imports nothing heavy.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from orca_recipes.contract.ending import Ending
from orca_recipes.contract.markup import markup_from_json
from orca_recipes.errors import TemplateError, TokenizerError
from orca_recipes.plan.compile import add_student
from orca_recipes.plan.fingerprint import digest_of
from orca_recipes.plan.pins import MessagePin, Pins, SourcePin
from orca_recipes.plan.plugins import PluginPin, kind_key
from orca_recipes.plan.stages import PlanBuilder
from orca_recipes.plan.used_parts import used_collections, used_kinds
from orca_recipes.recipe.model import Recipe
from orca_recipes.run.pinning.template import Dissecting, take_apart
from orca_recipes.run.pinning.tokenizer import Resolving, resolve
from orca_recipes.run.work.background import Aside
from orca_recipes.run.work.blame import placed
from orca_recipes.run.work.student import Student
from orca_recipes.run.work.workers import HERE, Work
from orca_recipes.store.claims import Say, quiet
from orca_recipes.store.source_digests import FileDigests, Pinned
from orca_recipes.store.store import Store


def pin_recipe(
    recipe: Recipe,
    store: Store,
    *,
    messages: Mapping[str, MessagePin] | None = None,
    plugins: Mapping[str, PluginPin] | None = None,
    locked: Pins | None = None,
    rehash: bool = False,
    say: Say = quiet,
    workers: int = 1,
    work: Work = HERE,
) -> tuple[Pins, Student]:
    """Pin a recipe as the world is now.

    Args:
        messages: the pins of the sets of system messages that it uses.
        plugins: the pins of the plugins of strangers that it uses.
        locked: the pins of the lock; what it holds of a file that stayed as it was is that file's pin.
        say: hears that another build is waited for, or that the store is mended.
        workers: with more than one, source files are hashed while the student is pinned.
        work: who loads the tokenizer and tries the template.
    """
    digests = FileDigests(store.root / "digests.sqlite", rehash=rehash)
    held = {} if locked is None else {name: pin.digests for name, pin in locked.collections.items()}
    sources = Aside(partial(_pin_sources, recipe, digests, held))
    if workers == 1:
        sources.result()
    try:
        with placed("tokenizer"):
            files = digests.stamped(recipe.tokenizer.files(), locked.tokenizer.digests if locked else {})
        tokenizer = SourcePin(tuple(found.pin for found in files))
        builder = PlanBuilder(plugins)
        student, tokenizer_digest = _student(builder, recipe, tokenizer, files, store, say, work)
    except Exception:
        sources.result()  # a fault of a source is told before one of the student, whichever came first
        raise
    collections = sources.result()
    pins = Pins(
        collections=collections,
        tokenizer=tokenizer,
        tokenizer_digest=tokenizer_digest,
        template="blake2b:" + digest_of(student.markup.as_json()),
        kinds=dict(sorted((kind_key(kind), type(kind).revision) for kind in used_kinds(recipe))),
        system_messages=messages or {},
        plugins=plugins or {},
    )
    return pins, student


def _pin_sources(recipe: Recipe, digests: FileDigests, held: Mapping[str, Mapping[str, str]]) -> dict[str, SourcePin]:
    found = {}
    with digests.together() as pinning:
        for name in used_collections(recipe):
            source = recipe.collections[name]
            with placed(f"collections.{name}"):
                found[name] = SourcePin(pinning.pin(source.files(), held.get(name, {})), dict(source.pins()))
    return found


def _student(
    builder: PlanBuilder,
    recipe: Recipe,
    pin: SourcePin,
    files: Sequence[Pinned],
    store: Store,
    say: Say,
    work: Work,
) -> tuple[Student, str]:
    tokenizer, template = (builder.plan()[name] for name in add_student(builder, recipe, pin))
    with store.working_on(tokenizer, say) as folder:
        if not folder.is_sound(tokenizer.name, say):
            resolving = Resolving(recipe.tokenizer, tuple(files), folder)
            work.do(resolve, resolving, what=resolving.named, failure=TokenizerError)
    work.expect(recipe.tokenizer, folder.path)
    with store.working_on(template, say) as made:
        if not made.is_sound(template.name, say):
            task = Dissecting(recipe.tokenizer, recipe.template, folder.path, made)
            work.do(take_apart, task, what="template, tried with the tokenizer", failure=TemplateError)
    facts = made.receipt["report"]
    known = facts["vocabulary"]
    told = known["ending"]
    ending = Ending(**{**told, "ids": tuple(told["ids"]), "others": tuple(told.get("others", ()))})
    student = Student(folder.path, markup_from_json(facts["markup"]), **{**known, "ending": ending})
    return student, folder.receipt["report"]["digest"]
