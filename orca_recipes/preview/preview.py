"""A preview of a build: stages, the store's share of them, reasons of the others to run, and rows taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from orca_recipes.counted import counted
from orca_recipes.plan.paper import WHOLE, PaperTable, paper_table
from orca_recipes.plan.stages import Stage
from orca_recipes.plan.used_parts import has_reserve, taken_collections, used_collections
from orca_recipes.plan.why import why
from orca_recipes.preview.first_rows import Trial, trial_lines
from orca_recipes.preview.histories import HistoryView, history_table
from orca_recipes.preview.mixture_counts import DECLARED, EXACT, UNKNOWN, Known, MixtureView, mixture_views
from orca_recipes.preview.mixture_table import mixture_table, paper_text
from orca_recipes.preview.phase_rows import PhaseView, phase_lines, phase_views
from orca_recipes.preview.rule_preview import declared_coverage, exact_coverage, rule_table
from orca_recipes.recipe.model import Recipe
from orca_recipes.run.answers.stale_answers import stale_answers
from orca_recipes.run.build import Asked, Prepared
from orca_recipes.run.conversations.rule_coverage import RuleView
from orca_recipes.run.tokens.recall import earlier_stages
from orca_recipes.shards.curriculum import DatasetSize
from orca_recipes.shards.manifest import NAME, inspect_manifest
from orca_recipes.store.store import Store
from orca_recipes.text_table import in_columns


@dataclass(frozen=True)
class StageView:
    """One stage: state is "cached" or "will run"; why says why it runs, again what of it is done again then."""

    name: str
    kind: str
    fingerprint: str
    state: str
    why: str
    again: str = ""


@dataclass(frozen=True)
class RowsView:
    """The rows that a dataset takes of a collection.

    rows: of the collection; state: "exact" where it was scanned, "declared" where its size is known without, else
    "unknown".
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
    mixtures: Mapping[str, MixtureView]
    rules: tuple[RuleView, ...]
    paper: PaperTable | None
    phases: tuple[PhaseView, ...]
    trials: tuple[Trial, ...] = ()
    histories: tuple[HistoryView, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return "\n\n".join(part for part in self._tables() if part)

    def _tables(self) -> tuple[str, ...]:
        return (
            _stage_table(self.stages),
            mixture_table(self.mixtures),
            _row_table(self.rows),
            rule_table(self.rules),
            trial_lines(self.trials),
            history_table(self.histories),
            paper_text(self.paper) if self.paper is not None else "",
            "\n".join(in_columns(phase_lines(self.phases))) if self.phases else "",
        )


def preview(
    asked: Asked, prepared: Prepared, trials: tuple[Trial, ...] = (), histories: tuple[HistoryView, ...] = ()
) -> Preview:
    """Preview a pinned recipe, held against the store and the build in the same directory."""
    recipe, store = asked.loaded.recipe, asked.store
    last = store.last_build(asked.directory)
    before: Mapping[str, Any] = last["stages"] if last else {}
    built = _built(asked)
    reasons: dict[str, str] = {}
    views = []
    stale = stale_answers(prepared.recipe, prepared.plan, store, asked.traces, asks_empty=True)
    finished = store.finished(prepared.plan)
    for stage in prepared.plan:
        here = built.get(stage.name) == stage.fingerprint if stage.verb == "write" else stage.name in finished
        here = here and stage.name not in stale
        reasons[stage.name] = why(stage, before.get(stage.name), reasons)
        reason = (
            ""
            if here
            else stale.get(stage.name)
            or reasons[stage.name]
            or ("not in the build" if stage.verb == "write" else "not in the store")
        )
        again = "" if here else _again(store, prepared, stage)
        views.append(
            StageView(stage.name, stage.kind, stage.fingerprint, "cached" if here else "will run", reason, again)
        )
    known = {
        name: _scanned(store, prepared, name) if f"read {name}" in finished else _declared(prepared.recipe, name)
        for name in used_collections(recipe)
    }

    def report(mixture: str, collection: str) -> Mapping[str, Any] | None:
        name = f"mix {mixture}/{collection}"
        is_known = asked.limit is None and name in finished
        return store.folder(prepared.plan[name]).receipt["report"] if is_known else None

    mixtures = mixture_views(recipe, known, report)
    packed = {name: _packed(store, prepared, name) for name in recipe.datasets}
    rules = exact_coverage(prepared, store, mixtures)
    found = _preview(recipe, tuple(views), known, mixtures, rules, asked.limit, packed)
    return replace(found, trials=trials, histories=histories)


def declared(recipe: Recipe, *, limit: int | None) -> Preview:
    """Preview a recipe offline: no lock, no fingerprints, and no file is read for more than its size."""
    known = {name: _declared(recipe, name) for name in used_collections(recipe)}
    mixtures = mixture_views(recipe, known, lambda mixture, collection: None)
    return _preview(recipe, (), known, mixtures, declared_coverage(recipe, mixtures), limit, {})


def _preview(
    recipe: Recipe,
    stages: tuple[StageView, ...],
    known: Mapping[str, Known],
    mixtures: Mapping[str, MixtureView],
    rules: tuple[RuleView, ...],
    limit: int | None,
    packed: Mapping[str, DatasetSize | None],
) -> Preview:
    rows = _rows(recipe, known, mixtures, limit)
    counts = {
        name: {WHOLE: view.rows, **{found: part.rows for found, part in view.collections.items()}}
        for name, view in mixtures.items()
    }
    taken: dict[str, int | None] = {}
    for view in rows:
        before = taken.setdefault(view.dataset, 0)
        taken[view.dataset] = None if before is None or view.taken is None else before + view.taken
    for rule in rules:
        before = taken.get(rule.dataset)
        taken[rule.dataset] = None if before is None or _is_open(recipe, rule) else before + rule.created
    return Preview(
        stages=stages,
        rows=rows,
        mixtures=mixtures,
        rules=rules,
        paper=None if recipe.paper is None else paper_table(recipe.paper, counts),
        phases=phase_views(recipe, taken=taken, packed={name: size for name, size in packed.items() if size}),
    )


def _is_open(recipe: Recipe, rule: RuleView) -> bool:
    """Tell whether a rule makes more examples, and nobody knows how many: of rows or texts that are not known, or of a
    draw whose reserve it counts."""
    if rule.number is None or recipe.rules[rule.number - 1].expand != "each" or rule.examples == 0:
        return False
    collections = taken_collections(recipe, rule.dataset)
    return not rule.created or any(has_reserve(recipe, rule.dataset, found) for found in collections)


def _packed(store: Store, prepared: Prepared, dataset: str) -> DatasetSize | None:
    folder = store.folder(prepared.plan[f"pack {dataset}"])
    if not folder.finished:
        return None
    report = folder.receipt["report"]
    return DatasetSize(report["rows"], report["tokens"], report["trained_tokens"])


def _built(asked: Asked) -> dict[str, str]:
    if not (asked.directory / NAME).is_file():
        return {}
    manifest, _ = inspect_manifest(asked.directory)
    return {stage.name: stage.fingerprint for stage in manifest.plan}


def _scanned(store: Store, prepared: Prepared, collection: str) -> Known:
    report = store.folder(prepared.plan[f"read {collection}"]).receipt["report"]
    return Known(report["out"], report["tasks"], EXACT)


def _declared(recipe: Recipe, collection: str) -> Known:
    """Return the size of a collection before it was scanned: as the recipe expects it, else as its source declares
    it."""
    source = recipe.collections[collection]
    tasks = source.declared_tasks()
    rows = source.expected_rows
    if rows is None:
        rows = source.declared_rows() if tasks is None else sum(tasks.values())
    return Known(rows, tasks, DECLARED if rows is not None else UNKNOWN)


def _rows(
    recipe: Recipe, known: Mapping[str, Known], mixtures: Mapping[str, MixtureView], limit: int | None
) -> tuple[RowsView, ...]:
    views = []
    for dataset, chosen in recipe.datasets.items():
        for name in taken_collections(recipe, dataset):
            taken = mixtures[chosen.mixture].collections[name].rows
            if limit is not None:
                taken = limit if taken is None else min(taken, limit)
            views.append(RowsView(dataset, name, known[name].rows, taken, known[name].state))
    return tuple(views)


def _again(store: Store, prepared: Prepared, stage: Stage) -> str:
    """Describe the work a stage does again, where earlier stages hold a part of it; else ""."""
    if stage.verb == "converse" and store.earlier(stage):
        return "judges all again; writes only conversations that are others"
    if stage.verb == "tokenize" and (earlier := earlier_stages(store, prepared.plan, stage)):
        told = counted(len(earlier), "earlier stage")
        return f"tokenizes only conversations that {told} did not"
    return ""


def _stage_table(stages: tuple[StageView, ...]) -> str:
    lines = [("stage", "fingerprint", "state", "why", "kinds")]
    reasons = {view.name: "; ".join(filter(None, (view.why, view.again))) for view in stages}
    lines += [(view.name, view.fingerprint[:12], view.state, reasons[view.name], view.kind) for view in stages]
    return "\n".join(in_columns(lines)) if stages else ""


def _row_table(rows: tuple[RowsView, ...]) -> str:
    lines: list[tuple[str, ...]] = [("dataset", "collection", "rows", "taken", "state")]
    for view in rows:
        shown = ("?" if number is None else f"{number:,}" for number in (view.rows, view.taken))
        lines.append((view.dataset, view.collection, *shown, view.state))
    return "\n".join(in_columns(lines))
