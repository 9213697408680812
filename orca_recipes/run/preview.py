"""What a build would do: its stages, what the store holds of them, why the others run, and how many rows are taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orca_recipes.plan.compile import taken_collections, used_collections
from orca_recipes.plan.why import why
from orca_recipes.recipe.model import Recipe
from orca_recipes.run.build import Asked, Prepared
from orca_recipes.run.store import Store
from orca_recipes.shards.manifest import NAME, inspect_manifest


@dataclass(frozen=True)
class StageView:
    """One stage: state is "cached" or "will run"; why says why it runs."""

    name: str
    kind: str
    fingerprint: str
    state: str
    why: str


@dataclass(frozen=True)
class RowsView:
    """What a dataset takes of a collection.

    state: "exact" where the collection was scanned, "declared" where its size is known without, else "unknown".
    """

    dataset: str
    collection: str
    rows: int | None
    taken: int | None
    state: str


@dataclass(frozen=True)
class Preview:
    stages: tuple[StageView, ...]
    rows: tuple[RowsView, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return "\n\n".join(part for part in (_stage_table(self.stages), _row_table(self.rows)) if part)


def preview(asked: Asked, prepared: Prepared) -> Preview:
    """The plan of a pinned recipe, held against the store and the build that lies where this one would."""
    recipe, store = asked.loaded.recipe, asked.store
    last = store.last_build(asked.directory)
    before: Mapping[str, Any] = last["stages"] if last else {}
    built = _built(asked)
    reasons: dict[str, str] = {}
    views = []
    for stage in prepared.plan:
        here = built.get(stage.name) == stage.fingerprint if stage.verb == "write" else store.folder(stage).finished
        reasons[stage.name] = why(stage, before.get(stage.name), reasons)
        reason = (
            "" if here else reasons[stage.name] or ("not in the build" if stage.verb == "write" else "not in the store")
        )
        views.append(StageView(stage.name, stage.kind, stage.fingerprint, "cached" if here else "will run", reason))
    scanned = {name: _scanned(store, prepared, name) for name in used_collections(recipe)}
    return Preview(tuple(views), _rows(recipe, scanned, asked.limit))


def declared(recipe: Recipe, *, limit: int | None) -> Preview:
    """The plan offline: no lock, no fingerprints, and no file is read for more than its size."""
    return Preview((), _rows(recipe, {}, limit))


def _built(asked: Asked) -> dict[str, str]:
    if not (asked.directory / NAME).is_file():
        return {}
    manifest, _ = inspect_manifest(asked.directory)
    return {stage.name: stage.fingerprint for stage in manifest.plan}


def _scanned(store: Store, prepared: Prepared, collection: str) -> int | None:
    folder = store.folder(prepared.plan[f"read {collection}"])
    return folder.receipt["report"]["out"] if folder.finished else None


def _rows(recipe: Recipe, scanned: Mapping[str, int | None], limit: int | None) -> tuple[RowsView, ...]:
    views = []
    for dataset, chosen in recipe.datasets.items():
        for name in taken_collections(recipe, dataset):
            exact = scanned.get(name)
            rows = exact if exact is not None else recipe.collections[name].declared_rows()
            asked = recipe.mixtures[chosen.mixture].take[name].rows
            taken = asked if asked is not None else rows
            if limit is not None:
                taken = limit if taken is None else min(taken, limit)
            state = "exact" if exact is not None else "declared" if rows is not None else "unknown"
            views.append(RowsView(dataset, name, rows, taken, state))
    return tuple(views)


def _stage_table(stages: tuple[StageView, ...]) -> str:
    lines = [("stage", "fingerprint", "state", "why", "kinds")]
    lines += [(view.name, view.fingerprint[:12], view.state, view.why, view.kind) for view in stages]
    return _columns(lines) if stages else ""


def _row_table(rows: tuple[RowsView, ...]) -> str:
    lines: list[tuple[str, ...]] = [("dataset", "collection", "rows", "taken", "state")]
    for view in rows:
        shown = ("?" if number is None else f"{number:,}" for number in (view.rows, view.taken))
        lines.append((view.dataset, view.collection, *shown, view.state))
    return _columns(lines)


def _columns(lines: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
