"""Stages of the store whose answers no longer count.

Fingerprints say what was asked, not what was answered. So where answers were dropped from the traces, the stages that
hold them, and all that was made of those, are let go of; and a stage to which every reply was empty is asked again.
Stages whose answers still stand are kept: to know, only requests some answer to which was dropped are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from orca_recipes.contract.answers import Lengths
from orca_recipes.errors import StoreError
from orca_recipes.plan.stages import Plan
from orca_recipes.plan.used_parts import collects, taken_collections
from orca_recipes.recipe.model import Recipe
from orca_recipes.run.answers.stored_answers import answers_frame, answers_of
from orca_recipes.run.work.account import ACCOUNT, read_account
from orca_recipes.shards.manifest import Manifest
from orca_recipes.store.arrow_files import read_frame
from orca_recipes.store.stage_folder import StageFolder
from orca_recipes.store.store import Store
from orca_recipes.traces.trace_store import TraceStore, any_dropped, default_root

if TYPE_CHECKING:
    import polars as pl

DROPPED = "answers that it holds were dropped"
ALL_EMPTY = "every reply was empty"


def stale_answers(
    recipe: Recipe, plan: Plan, store: Store, traces: Path | None, *, asks_empty: bool = False
) -> dict[str, str]:
    """Find the stages to be made again, each with the reason; inputs come first.

    Args:
        asks_empty: whether stages count to which every reply was empty.
    """
    found: dict[str, str] = {}
    subjects = [
        (f"{dataset}/{collection}", recipe.teachers[recipe.datasets[dataset].teacher].lengths())
        for dataset in recipe.datasets
        if collects(recipe, dataset)
        for collection in taken_collections(recipe, dataset)
    ]
    if not subjects:
        return found
    if asks_empty:
        for subject, _ in subjects:
            if _is_all_empty(store.folder(plan[f"answer {subject}"])):
                found[f"answer {subject}"] = ALL_EMPTY
    if _any_dropped(traces):
        with TraceStore(traces or default_root()) as opened:
            opened.refresh()
            found |= dict.fromkeys(_dropped(subjects, plan, store, opened), DROPPED)
        found |= {f"pack {name}": DROPPED for name in recipe.datasets if not _is_packed_of(name, subjects, plan, store)}
    for stage in plan:
        reasons = [found[name] for name in stage.inputs if name in found]
        if reasons and stage.name not in found:
            found[stage.name] = reasons[0]
    return {stage.name: found[stage.name] for stage in plan if stage.name in found}


def holds_other_answers(made: Manifest, plan: Plan, store: Store, traces: Path | None) -> bool:
    """Tell whether a build holds other answers than the store, as after `traces drop`."""
    if not _any_dropped(traces):
        return False
    return any(
        not _is_of(plan, store, f"{dataset}/{collection}", digest)
        for dataset, counts in made.made.answers.items()
        for collection, digest in counts.digest.items()
    )


def answers_used(recipe: Recipe, plan: Plan, store: Store, dataset: str) -> dict[str, str]:
    """Map collections to the digest of the answers that a dataset's tokens were made of; none where it buys none."""
    if not collects(recipe, dataset):
        return {}
    accounts = {
        name: read_account(store.folder(plan[f"tokenize {dataset}/{name}"]))
        for name in taken_collections(recipe, dataset)
    }
    return {name: account.reports["answer"]["digest"] for name, account in accounts.items()}


def _is_all_empty(folder: StageFolder) -> bool:
    """Tell whether a finished stage `answer` asked something and got only rejections, some of them empty replies."""
    if not folder.finished:
        return False
    report = folder.receipt["report"]
    return bool(report.get("empty", 0)) and bool(report["requests"] == report["refused"])


def _any_dropped(traces: Path | None) -> bool:
    return any_dropped(traces or default_root())


def _is_packed_of(dataset: str, subjects: list[tuple[str, Lengths]], plan: Plan, store: Store) -> bool:
    """Tell whether a dataset's finished stage `pack` was made of the answers in the store."""
    folder = store.folder(plan[f"pack {dataset}"])
    mine = [subject for subject, _ in subjects if subject.startswith(f"{dataset}/")]
    if not mine or not folder.finished:
        return True
    used = folder.receipt["report"].get("answers", {})
    return all(_is_of(plan, store, subject, used.get(subject.partition("/")[2], "")) for subject in mine)


def _is_of(plan: Plan, store: Store, subject: str, digest: str) -> bool:
    """Tell whether the store's answers to a subject have this digest; also true if the store has no finished ones."""
    answer = store.folder(plan[f"answer {subject}"])
    return not answer.finished or bool(answer.receipt["report"]["digest"] == digest)


def _dropped(subjects: list[tuple[str, Lengths]], plan: Plan, store: Store, traces: TraceStore) -> Iterator[str]:
    """Yield the stages that hold dropped answers, or were made of other answers than stage `answer` holds now."""
    for subject, lengths in subjects:
        answer = store.folder(plan[f"answer {subject}"])
        stands = answer.finished and not any(_has_lost(frame, traces, lengths) for frame in _frames(answer))
        if answer.published and not stands:
            yield f"answer {subject}"
        for verb in ("converse", "sift", "keep", "tokenize"):
            stage = plan.stages.get(f"{verb} {subject}")
            if stage is None or not store.folder(stage).finished:
                continue
            used = read_account(store.folder(stage)).reports["answer"]["digest"]
            if not stands or used != answer.receipt["report"]["digest"]:
                yield stage.name


def _frames(answer: StageFolder) -> Iterator[pl.DataFrame]:
    for part in answer.parts():
        if part.name != ACCOUNT:
            yield read_frame(part.file(".arrow"), columns=["key", "answer", "finish_reason", "reason"])


def _has_lost(frame: pl.DataFrame, traces: TraceStore, lengths: Lengths) -> bool:
    """Tell whether some request's answer was dropped and is now another one, or missing."""
    import polars as pl

    keys = frame["key"].drop_nulls().unique(maintain_order=True).to_list()
    dropped = sorted(traces.index.dropped(keys))
    if not dropped:
        return False
    held = frame.filter(pl.col("key").is_in(dropped)).unique("key", maintain_order=True)
    try:
        now = answers_frame(held["key"], answers_of(dropped, traces, lengths), lengths)
    except KeyError:
        return True
    return not held.equals(now.select(held.columns))


def let_go(store: Store, plan: Plan, stale: dict[str, str]) -> None:
    """Take stages out of the store, so that they are made again.

    Raises: StoreError where another build uses one of them now.
    """
    if not store.remove([plan[name] for name in stale]):
        raise StoreError(
            f"the store {store.root} holds answers that count for nothing any more, and another build uses them now: "
            "run the same command again when that build has ended"
        )
