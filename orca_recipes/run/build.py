"""Build a recipe: pin, compile, execute, publish, note what was made in the lock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from orca_recipes import trust
from orca_recipes.contract.spelling import printable
from orca_recipes.errors import DamagedShard, LockError
from orca_recipes.plan.compile import compile_plan
from orca_recipes.plan.lock_changes import LockChange, lock_changes
from orca_recipes.plan.pins import FilePin, Pins, differences
from orca_recipes.plan.plugins import PluginPin, plugin_differences
from orca_recipes.plan.stages import Plan
from orca_recipes.plan.used_parts import used_collections
from orca_recipes.progress import Progress
from orca_recipes.recipe.load import LoadedRecipe
from orca_recipes.recipe.model import Recipe
from orca_recipes.run.answers.collecting import Collecting, count_billed_twice
from orca_recipes.run.answers.stale_answers import holds_other_answers, stale_answers
from orca_recipes.run.build_folder import alone, put_back, refuse_foreign
from orca_recipes.run.built import Built, Ran
from orca_recipes.run.execute import execute
from orca_recipes.run.held_to_lock import check_outcomes, check_plan, other_manifest
from orca_recipes.run.in_place import first_damage
from orca_recipes.run.pinning.lock_file import Lock, lock_path, read_lock, write_lock
from orca_recipes.run.pinning.message_lookup import look_up
from orca_recipes.run.pinning.moving_names import settled
from orca_recipes.run.pinning.pin import pin_recipe
from orca_recipes.run.pinning.plugin_versions import pin_plugins
from orca_recipes.run.publish import Publication
from orca_recipes.run.work.bench import Bench
from orca_recipes.run.work.student import Student
from orca_recipes.run.work.workers import HERE, Work, Workers, import_libraries, is_worth_workers
from orca_recipes.shards.digests import file_digest
from orca_recipes.shards.manifest import Manifest, contents_digest, read_manifest
from orca_recipes.store.claims import Say, quiet
from orca_recipes.store.disk_faults import writing
from orca_recipes.store.shared_build import shared_build
from orca_recipes.store.source_digests import BLAKE2B, FileDigests
from orca_recipes.store.store import Store


@dataclass(frozen=True)
class Asked:
    """A user's options for a build.

    locked: demand what the lock pins. limit: at most so many examples of each collection. rehash: read every source
    file again, though size, time and inode say that it is the same. traces: where bought answers are kept; this user's
    data directory, where it is not said. work: who loads files for the first time; this process, unless it is said.
    may_buy: whether answers that are not stored are asked for.
    """

    loaded: LoadedRecipe
    store: Store
    directory: Path
    workers: int
    locked: bool = False
    limit: int | None = None
    rehash: bool = False
    traces: Path | None = None
    work: Work = HERE
    may_buy: bool = True

    @property
    def is_variant(self) -> bool:
        """Tell whether this is another build than the one described by the lock next to the recipe."""
        return bool(self.loaded.decisive_overrides) or self.limit is not None or not self.loaded.is_file


@dataclass(frozen=True)
class Prepared:
    """A recipe pinned and compiled."""

    pins: Pins
    student: Student
    plan: Plan
    recipe: Recipe


def prepare(asked: Asked, say: Say = quiet, work: Work | None = None) -> Prepared:
    """Pin and compile; the recipe then holds the texts of all system messages.

    Args:
        work: as for `pin_recipe`; that of `asked`, where it is not said.
    Raises: as `look_up`, `pin_recipe`.
    """
    lock = read_lock(lock_path(asked.loaded.path, asked.loaded.profile))
    loaded = settled(asked.loaded, lock, insist=asked.locked, work=asked.work)
    plugins = pinned_plugins(asked)
    locked = lock.pins if lock else None
    texts = look_up(loaded, asked.store, plugins=plugins, locked=locked, rehash=asked.rehash)
    work = work or asked.work
    pins, student = pin_recipe(
        texts.recipe,
        asked.store,
        messages=texts.pins,
        plugins=plugins,
        locked=locked,
        rehash=asked.rehash,
        say=say,
        workers=asked.workers,
        work=work,
    )
    work.rest()
    files = ((each.name, each.path) for each in asked.loaded.extends)
    extends = tuple(FilePin(name, path.stat().st_size, file_digest(path)) for name, path in files)
    pins = replace(pins, extends=extends)
    return Prepared(pins, student, compile_plan(texts.recipe, pins, limit=asked.limit), texts.recipe)


def pinned_plugins(asked: Asked) -> dict[str, PluginPin]:
    """Pin the plugins of strangers that a recipe uses, as they are now. Raises: as `pin_plugins`."""
    digests = FileDigests(asked.store.root / "digests.sqlite", rehash=asked.rehash, digesting=BLAKE2B)
    return pin_plugins(asked.loaded, digests)


def build(asked: Asked, progress: Progress) -> tuple[Manifest, bool]:
    """Build what is asked; return its manifest, and whether there was anything to do.

    Raises: as `made`.
    """
    found = made(asked, progress)
    return found.manifest, found.fresh


def made(asked: Asked, progress: Progress) -> Built:
    """Build as asked; return the build with its run's engine, stages and costs.

    Raises: LockError under `locked`, where pins or outcomes differ; BuildError; whatever a stage raises.
    """
    asked.loaded.recipe.engine.report_to(say=progress.say)
    try:
        return _build(asked, progress)
    finally:
        # Also after a fault: whoever holds its traceback would hold the claims of a build that has ended.
        asked.store.release()
        asked.loaded.recipe.engine.close()


def _build(asked: Asked, progress: Progress) -> Built:
    path = lock_path(asked.loaded.path, asked.loaded.profile)
    lock = read_lock(path)
    if asked.locked and lock is None:
        raise LockError(f"{path}: there is no lock; run `orca-recipe lock {asked.loaded.path}` first")
    refuse_foreign(asked.directory)
    if asked.locked and lock is not None:
        # Before any of them runs.
        _refuse_differences(asked, path, list(plugin_differences(lock.pins.plugins, pinned_plugins(asked))))
    asked = replace(asked, loaded=settled(asked.loaded, lock, insist=asked.locked, work=asked.work))
    prepared = prepare(asked, progress.say, _workers(asked))
    if lock is not None and (found := differences(lock.pins, prepared.pins)):
        _tell_differences(asked, path, found, progress)
    if not asked.locked and not asked.is_variant and (lock is None or lock.pins != prepared.pins):
        _try_to_write_beside(path)
    if asked.locked and lock is not None:
        check_plan(path, lock.outcomes.get("plan", {}), prepared.plan)
    with alone(asked.directory), ExitStack() as held:
        shared = shared_build(asked.directory)
        there = _there(asked, prepared, lock, progress.say)
        if there is None and shared is not None:
            leases = held.enter_context(shared.claimed(progress.say))
            # Who wrote the address until now may have written this very build.
            there = _there(asked, prepared, lock, progress.say)
        ran = Ran(asked.loaded.recipe.engine.kind)
        stands = None if there is None else Built(asked.directory, there, fresh=False, ran=ran)
        done = stands or _make(asked, prepared, progress, lock)
        if shared is not None and stands is None:
            shared.send(leases, progress.say)
    _remember(asked, prepared)
    outcomes = _outcomes(prepared, done.manifest)
    if asked.locked and lock is not None:
        check_outcomes(path, lock.outcomes, outcomes)
    elif not asked.is_variant and Lock(prepared.pins, outcomes) != lock:
        write_lock(path, Lock(prepared.pins, outcomes))
    return done


def _there(asked: Asked, prepared: Prepared, lock: Lock | None, say: Say) -> Manifest | None:
    """Return the build at this place if it is the one asked for; None if there is none or another.

    Raises: as `_as_locked`; BuildError where something is in the way.
    """
    put_back(asked.directory)
    shared = shared_build(asked.directory)
    if shared is not None:
        shared.learn()
    there = _as_planned(asked.directory, asked.loaded, prepared)
    if there is not None and _is_stale(there, asked, prepared):
        there = None
    if there is not None and lock is not None:
        path = lock_path(asked.loaded.path, asked.loaded.profile)
        there = _as_locked(asked, path, lock.outcomes, there, prepared, say)
    return there


def _try_to_write_beside(path: Path) -> None:
    """Find out before the work whether a lock can be written after it. Raises: Failure."""
    otherwise = "copy the recipe into a folder of yours"
    with writing(path.parent, f"the lock {path}", otherwise), TemporaryFile(dir=path.parent):
        pass


def lock_recipe(asked: Asked) -> tuple[Path, list[str]]:
    """Pin a recipe and write its lock; return where, and what differs from the lock that was there."""
    path = lock_path(asked.loaded.path, asked.loaded.profile)
    before = read_lock(path)
    prepared = prepare(asked)
    changed = [] if before is None else differences(before.pins, prepared.pins)
    outcomes: Mapping[str, Any] = _foreseen(prepared)
    if before is not None and before.outcomes.get("plan") == outcomes["plan"]:
        outcomes = before.outcomes
    write_lock(path, Lock(prepared.pins, outcomes))
    return path, changed


def explain_lock(asked: Asked) -> list[LockChange]:
    """List the changes that `lock_recipe` would make to the lock, part by part, without writing.

    Raises: LockError where there is no lock.
    """
    path = lock_path(asked.loaded.path, asked.loaded.profile)
    before = read_lock(path)
    if before is None:
        raise LockError(f"{path}: there is no lock; run `orca-recipe lock {asked.loaded.path}` first")
    prepared = prepare(asked)
    return lock_changes(before.pins, prepared.pins, before.outcomes, _foreseen(prepared))


def scan(asked: Asked, prepared: Prepared, progress: Progress) -> Bench:
    """Read every source and draw every mixture, and ask nobody anything: then all counts are known.

    Raises: Shortfall and others where a mixture cannot be drawn.
    """
    bench = bench_of(asked, prepared, progress)
    try:
        execute(bench, {"mix"})
    finally:
        asked.loaded.recipe.engine.close()
    return bench


def bench_of(asked: Asked, prepared: Prepared, progress: Progress, lock: Lock | None = None) -> Bench:
    """Make the bench of a run; under `locked` it buys no answers and uses only those of the lock.

    Raises: TrustError where the engine is a host that the user never allowed.
    """
    trust.check(prepared.recipe.engine.destinations(), owner="engine")
    return Bench(
        recipe=prepared.recipe,
        plan=prepared.plan,
        store=asked.store,
        student=prepared.student,
        limit=asked.limit,
        workers=asked.workers,
        progress=progress,
        traces=asked.traces,
        may_buy=asked.may_buy and not asked.locked,
        locked_answers=lock.outcomes.get("answers", {}) if asked.locked and lock is not None else {},
    )


def _make(asked: Asked, prepared: Prepared, progress: Progress, lock: Lock | None) -> Built:
    bench = bench_of(asked, prepared, progress, lock)
    execute(bench)
    pins = prepared.pins
    manifest = Publication(asked.loaded, bench, pins.digest(), asked.directory, pins.plugins).publish()
    count_billed_twice(bench)
    twice = sum(each.maybe_billed_twice for each in bench.shared(Collecting).bought.values())
    engine = asked.loaded.recipe.engine
    reach = engine.reach()
    ran = Ran(engine.kind, reach.nodes, sum(bench.mapped.values()), reach.retried)
    return Built(asked.directory, manifest, fresh=True, ran=ran, made=bench.made(), maybe_billed_twice=twice)


def _workers(asked: Asked) -> Work:
    """Return the workers of a large build that starts anew, else this process; a cluster starts in the meantime."""
    recipe = asked.loaded.recipe
    if (asked.directory / "manifest.json").is_file():
        return asked.work
    if recipe.engine.spreads:
        trust.check(recipe.engine.destinations(), owner="engine")
        recipe.engine.warm(function=import_libraries, task=None, workers=asked.workers)
        return asked.work
    if asked.workers == 1 or not is_worth_workers(recipe, used_collections(recipe)):
        return asked.work
    return Workers(recipe.engine, asked.workers)


def _is_stale(made: Manifest, asked: Asked, prepared: Prepared) -> bool:
    """Tell whether answers held by a build were dropped, as far as the store knows."""
    stale = stale_answers(prepared.recipe, prepared.plan, asked.store, asked.traces)
    return bool(stale) or holds_other_answers(made, prepared.plan, asked.store, asked.traces)


def _as_planned(directory: Path, loaded: LoadedRecipe, prepared: Prepared) -> Manifest | None:
    """Return the present build if it is the planned one and whole by its file sizes, else None."""
    if not (directory / "manifest.json").is_file():
        return None
    try:
        manifest = read_manifest(directory)
    except DamagedShard:
        return None
    there = [(stage.name, stage.fingerprint) for stage in manifest.plan]
    planned = [(stage.name, stage.fingerprint) for stage in prepared.plan]
    same_words = manifest.recipe == loaded.decisive and manifest.profile == loaded.profile
    same_words = same_words and manifest.set == loaded.decisive_overrides
    same_words = same_words and manifest.lock_digest == prepared.pins.digest()
    return manifest if there == planned and same_words and _is_whole(directory, manifest) else None


def _is_whole(directory: Path, manifest: Manifest) -> bool:
    """Tell whether all files of a build are present, by their sizes."""
    shared = shared_build(directory)
    if shared is not None:
        return shared.is_whole(manifest)
    return all(
        (directory / file.path).is_file() and (directory / file.path).stat().st_size == file.bytes
        for file in (*manifest.files, *manifest.made.table_files)
    )


def _as_locked(
    asked: Asked, path: Path, locked: Mapping[str, Any], there: Manifest, prepared: Prepared, say: Say
) -> Manifest | None:
    """Return the present build, unless the lock describes another one: then None.

    Raises: LockError under `locked`, where it is another or does not hold what it says.
    """
    if locked.get("plan") != _foreseen(prepared)["plan"]:
        return there
    other = other_manifest(locked, _outcomes(prepared, there))
    if not asked.locked:
        if other is None or asked.is_variant:
            return there
        say(f"{asked.directory}: it is not the build that {path} holds; it is built again")
        return None
    memory, shared = asked.store.root / "digests.sqlite", shared_build(asked.directory)
    if shared is not None:
        shared.bring_all()
    fault = other or first_damage(asked.directory, there, memory, rehash=asked.rehash)
    if fault is not None:
        raise LockError(
            f"{asked.directory} is not the build that {path} holds: {fault}; "
            "remove it, or choose another place with --out, and run the same command again"
        )
    return there


def _refuse_differences(asked: Asked, path: Path, found: Sequence[str]) -> None:
    if found:
        told = "\n".join(f"  {printable(line)}" for line in found)
        raise LockError(
            f"{path}: the lock and what is here differ:\n{told}\n"
            f"bring back what was locked, or run `orca-recipe lock {asked.loaded.path}` to pin what is here"
        )


def _tell_differences(asked: Asked, path: Path, found: Sequence[str], progress: Progress) -> None:
    if asked.locked:
        _refuse_differences(asked, path, found)
    if not asked.is_variant:
        told = "\n".join(f"  {printable(line)}" for line in found)
        progress.say(f"{path}: pinned anew, because this changed:\n{told}")


def _foreseen(prepared: Prepared) -> dict[str, Any]:
    """Return the outcomes known before anything is built."""
    plan = {stage.name: stage.fingerprint for stage in prepared.plan}
    return {"tokenizer": prepared.student.verdict, "template": prepared.student.conformance, "plan": plan}


def _outcomes(prepared: Prepared, made: Manifest) -> dict[str, Any]:
    shards = {file.path: file.digest for file in made.files if file.path.endswith((".bin", ".idx"))}
    answers = {
        f"{name}/{collection}": digest
        for name, counts in made.made.answers.items()
        for collection, digest in counts.digest.items()
    }
    digests = {"manifest": made.digest, "contents": contents_digest(made), "data": made.data_digest}
    found = {**_foreseen(prepared), **digests, "shards": shards}
    return found | {"answers": answers} if answers else found


def _remember(asked: Asked, prepared: Prepared) -> None:
    stages = {
        stage.name: {"fingerprint": stage.fingerprint, "decisive": stage.decisive, "inputs": list(stage.inputs)}
        for stage in prepared.plan
    }
    folders = [asked.store.folder(stage).path.name for stage in prepared.plan]
    asked.store.remember_build(asked.directory, {"stages": stages, "folders": folders})
