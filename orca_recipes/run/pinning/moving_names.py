"""The moving names of a recipe's sources as what they stand for now, looked up once for a whole build.

A branch of the hub may move between two looks, and the hub may be out of reach; a lock says what a name stood for.
Under `--locked` it is taken at its word, else it is what remains where the hub cannot be asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from orca_recipes.contract.kinds import Source
from orca_recipes.errors import SourceError
from orca_recipes.plan.pins import SourcePin
from orca_recipes.plan.used_parts import used_collections
from orca_recipes.recipe.load import LoadedRecipe
from orca_recipes.recipe.model import Recipe
from orca_recipes.run.pinning.lock_file import Lock
from orca_recipes.run.work.blame import placed
from orca_recipes.run.work.workers import HERE, Work


@dataclass(frozen=True)
class Settling:
    """A source to settle, with what a lock holds of it."""

    source: Source
    files: tuple[str, ...]
    versions: Mapping[str, str]
    insist: bool


def settle(task: Settling) -> Source:
    """Settle a source. Raises: SourceError."""
    return task.source.settled(files=task.files, versions=task.versions, insist=task.insist)


def settled(loaded: LoadedRecipe, lock: Lock | None, *, insist: bool, work: Work = HERE) -> LoadedRecipe:
    """Settle each collection used by the recipe, also those whose texts are system messages.

    Args:
        insist: take what the lock holds without asking whether the world moved on.
        work: who looks into files, where a source is settled by what they hold.
    Raises: SourceError, naming the collection.
    """
    recipe, collections = loaded.recipe, dict(loaded.recipe.collections)
    for name in dict.fromkeys((*used_collections(recipe), *recipe.message_collections())):
        pin = lock.pins.collections.get(name, SourcePin()) if lock is not None else SourcePin()
        with placed(f"collections.{name}"):
            source = collections[name]
            task = Settling(source, tuple(file.name for file in pin.files), dict(pin.versions), insist)
            who = work if source.looks_to_settle(versions=pin.versions) else HERE
            collections[name] = who.do(settle, task, what="its first rows", failure=SourceError)
    return replace(loaded, recipe=recipe.model_copy(update={"collections": collections}))


def sources_away(recipe: Recipe, lock: Lock | None) -> list[str]:
    """Explain, for each collection that a build would first load onto this machine, why it would."""
    found = []
    for name in dict.fromkeys((*used_collections(recipe), *recipe.message_collections())):
        versions = lock.pins.collections.get(name, SourcePin()).versions if lock is not None else {}
        if (why := recipe.collections[name].away(versions=versions)) is not None:
            found.append(f"collections.{name}: {why}")
    return found
