"""The fate of a row in each dataset: kept, rejected, not drawn, or unknown where the store is gone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orca_recipes.contract.draws import id_text
from orca_recipes.explain.build_tables import BuildTables, Kept, Lost, stage_counts
from orca_recipes.explain.recipe_of_build import WrittenRecipe
from orca_recipes.explain.store_memory import StoredRow, StoreMemory, key_of
from orca_recipes.explain.story import (
    KEPT,
    NOT_DRAWN,
    REJECTED,
    UNKNOWN,
    Alike,
    Draw,
    Fate,
    Making,
    Origin,
    Standing,
    Story,
)
from orca_recipes.explain.trace_memory import AnswerMemory
from orca_recipes.shards.curriculum import read_curriculum
from orca_recipes.shards.manifest import StageCounts, read_manifest
from orca_recipes.shards.records import (
    ALL_TURNS,
    CUT,
    HISTORY_DROPPED,
    TAIL_TRIMMED,
    TRUNCATED,
    TURNS_DROPPED,
    TWIN,
    UNTRAINED,
    WINDOW,
)
from orca_recipes.shards.records import NOT_DRAWN as LEFT_BY_THE_DRAW

_FLAGS = {CUT: "cut", TRUNCATED: "truncated", TURNS_DROPPED: "turns_dropped"}
_FLAGS |= {HISTORY_DROPPED: "history_dropped", TAIL_TRIMMED: "tail_trimmed"}


@dataclass(frozen=True)
class AskedRow:
    """A row that is asked for: where the tables mention it, and what the store knows of it.

    example: its id, None where it never got one. file, place: as asked, where the row is known by its place alone.
    elsewhere: datasets that hold other examples made of the same row, by `repeat` or `expand`.
    exists: False where neither the build nor the store can say whether there is such a row.
    """

    collection: str
    example: str | None
    kept: Sequence[Kept] = ()
    lost: Sequence[Lost] = ()
    stored: StoredRow | None = None
    file: str | None = None
    place: int | None = None
    elsewhere: frozenset[str] = frozenset()
    exists: bool = True


@dataclass(frozen=True)
class BuildStories:
    """A build that is asked for the stories of its rows."""

    tables: BuildTables
    recipe: WrittenRecipe
    memory: StoreMemory
    answers: AnswerMemory

    @classmethod
    def open(cls, directory: Path, store: Path, traces: Path | None) -> BuildStories:
        """Raises: BuildError where there is no build; DamagedShard."""
        manifest = read_manifest(directory)
        tables = BuildTables(directory, manifest)
        answers = AnswerMemory.of(store, traces, manifest.plan)
        return cls(tables, WrittenRecipe(manifest.recipe), StoreMemory(store, manifest.plan), answers)

    def collections(self) -> list[str]:
        """List the collections that the build read, in the order of the plan."""
        return [stage.name.partition(" ")[2] for stage in self.tables.manifest.plan if stage.verb == "read"]

    def story(self, row: AskedRow) -> Story:
        """Tell a row's origin and its fate in each dataset that takes its collection."""
        if row.stored is None and row.example is not None:
            row = replace(row, stored=self.memory.row(row.collection, row.example))
        origin = self._origin(row)
        fates = [
            fate
            for dataset, counts in self.tables.manifest.datasets.items()
            if (drawn := stage_counts(counts, self._mix(dataset, row.collection))) is not None
            for fate in self._fates(dataset, drawn, origin, row)
        ]
        return Story(origin, tuple(fates))

    def is_all_known(self, collection: str) -> bool:
        """Tell whether every row of a collection can be explained: by the store, or because a dataset took them all."""
        if self.memory.holds(collection):
            return True
        draws = [
            stage_counts(counts, self._mix(dataset, collection))
            for dataset, counts in self.tables.manifest.datasets.items()
        ]
        return any(drawn is not None and not drawn.rejected for drawn in draws)

    def _mix(self, dataset: str, collection: str) -> str:
        """Name the stage that drew a collection for a dataset."""
        return f"mix {self.recipe.mixture(dataset)}/{collection}"

    def _origin(self, row: AskedRow) -> Origin:
        kind, options = self.recipe.source(row.collection)
        mentions: list[Kept | Lost] = [*row.kept, *row.lost]
        record = mentions[0].record if mentions else {}
        stored = row.stored
        return Origin(
            id=row.example,
            collection=row.collection,
            kind=kind,
            options=options,
            file=record["file"] if record else stored.file if stored else row.file,
            place=record["line"] if record else stored.place if stored else row.place,
            task=record.get("task") or (stored.task if stored else None),
            category=stored.category if stored else None,
        )

    def _fates(self, dataset: str, drawn: StageCounts, origin: Origin, row: AskedRow) -> Iterator[Fate]:
        kept = [found for found in row.kept if found.shard.dataset == dataset]
        lost = [found for found in row.lost if found.dataset == dataset]
        draw = self._draw(dataset, drawn, origin, row.stored)
        yield from (self._kept(found, draw, origin) for found in kept)
        yield from (self._rejected(found, draw, origin) for found in lost)
        if kept or lost or dataset in row.elsewhere:
            return
        if not row.exists:
            why = self.memory.absence(origin.collection)
            yield Fate(dataset, UNKNOWN, reason=f"not drawn, or no such row: {why}", draw=draw)
        elif drawn.rejected:
            yield Fate(dataset, NOT_DRAWN, reason=self._why_not(dataset, drawn, origin, row), draw=draw)
        else:
            why = "the dataset takes it, and none of its tables mentions it; run `orca-recipe verify`"
            yield Fate(dataset, UNKNOWN, reason=why, draw=draw)

    def _why_not(self, dataset: str, drawn: StageCounts, origin: Origin, row: AskedRow) -> str | None:
        """Say why a row was not drawn; None where others simply came before it."""
        other = [reason for reason in drawn.rejected if reason != LEFT_BY_THE_DRAW]
        if not other:
            return None
        example = row.stored.id if row.stored is not None else origin.id
        if example is None or not self.memory.holds(origin.collection):
            return f"{' or '.join(drawn.rejected)}: {self.memory.absence(origin.collection)}"
        reason = self.memory.left_out(self._mix(dataset, origin.collection), origin.collection, example)
        return None if reason == LEFT_BY_THE_DRAW else reason

    def _draw(self, dataset: str, drawn: StageCounts, origin: Origin, stored: StoredRow | None) -> Draw:
        take, rows = self.recipe.take(dataset, origin.collection)
        left_out = {reason: number for reason, number in drawn.rejected.items() if reason != LEFT_BY_THE_DRAW}
        there, repeats = drawn.taken - sum(left_out.values()), sum(drawn.created.values())
        seed = self.recipe.seed
        key = rank = unknown = None
        example = stored.id if stored is not None else None if repeats else origin.id
        if LEFT_BY_THE_DRAW in drawn.rejected and example is not None:
            key = key_of(example, seed=seed)
            if self.recipe.draws_by_row(dataset, origin.collection):
                stage = self._mix(dataset, origin.collection)
                rank = self.memory.rank(stage, origin.collection, example, seed=seed)
                absent = not self.memory.holds(origin.collection)
                unknown = self.memory.absence(origin.collection) if absent else "it could not be drawn"
            else:
                unknown = "it is not drawn from all rows alike"
        return Draw(
            mixture=self.recipe.mixture(dataset),
            take=take,
            taken=drawn.out,
            there=there,
            repeats=repeats,
            left_out=left_out,
            is_limited=self._is_limited(drawn, there if rows is None else rows),
            key=key,
            rank=rank,
            unknown=unknown if rank is None else None,
        )

    def _is_limited(self, drawn: StageCounts, asked: int) -> bool:
        return self.tables.manifest.limit == drawn.out and drawn.out < asked

    def _kept(self, found: Kept, draw: Draw, origin: Origin) -> Fate:
        filters = [text for _, text in self.recipe.filters(found.shard.dataset)]
        making = self._making(found.shard.dataset, origin, found.record, filters)
        is_drawn_or_erased = found.record["system_message"] or self.recipe.erases(found.shard.dataset)
        own = not is_drawn_or_erased and self.tables.has_system_message(found)
        making = replace(making, has_own_system_message=own)
        alike = self._alike(found.shard.dataset, origin.collection, found.record["id"])
        return Fate(found.shard.dataset, KEPT, draw=draw, making=making, standing=self._standing(found), alike=alike)

    def _rejected(self, found: Lost, draw: Draw, origin: Origin) -> Fate:
        stage, reason = found.record["stage"], found.record["reason"]
        if stage == "read":
            return Fate(found.dataset, REJECTED, stage, reason)
        if stage == "mix":
            return Fate(found.dataset, NOT_DRAWN, reason=self._with_twin(reason, found.record.get(TWIN)), draw=draw)
        if stage == "pack":
            reason = f"{reason} ({self.recipe.packing})"
        recorded = {"id": found.record["id"]}
        recorded |= {"strategy": stage.removeprefix("strategy ")} if stage.startswith("strategy ") else {}
        making = self._making(found.dataset, origin, recorded, self._passed(found.dataset, stage))
        alike = self._alike(found.dataset, origin.collection, found.record["id"])
        if not alike:
            reason = self._with_twin(reason, found.record.get(TWIN))
        return Fate(found.dataset, REJECTED, stage, reason, draw, making, alike=alike)

    def _alike(self, dataset: str, collection: str, example: str | None) -> tuple[Alike, ...]:
        """Return the findings of comparing filters about an example, as far as the store still holds them."""
        if example is None:
            return ()
        return tuple(
            Alike(
                filter=found["filter"],
                reason=found["reason"],
                likeness=found["likeness"],
                twin=(twin := id_text(found["twin_hi"], found["twin_lo"])),
                collection=found["twin_collection"],
                file=found["twin_file"],
                place=found["twin_place"],
                mine=self.memory.text(collection, example),
                theirs=self.memory.text(found["twin_collection"], twin),
            )
            for found in self.memory.alike(dataset, collection, example)
        )

    def _with_twin(self, reason: str, twin: str | None) -> str:
        """Add to a duplicate's reason the row that holds its context, as far as it is known."""
        if twin is None:
            return reason
        for collection in self.collections():
            row = self.memory.row(collection, twin)
            if row is not None and row.id == twin:
                return f"{reason} (example {twin}, {collection}/{row.file}:{row.place})"
        return f"{reason} (example {twin})"

    def _passed(self, dataset: str, stage: str) -> list[str] | None:
        """List the filters that a row passed before a stage rejected it; None where it never came to them."""
        verb, _, name = stage.partition(" ")
        filters = self.recipe.filters(dataset)
        if verb == "filter":
            here = next((number for number, (kind, _) in enumerate(filters) if kind == name), len(filters))
            return [text for _, text in filters[:here]]
        return None if verb in ("strategy", "teacher") else [text for _, text in filters]

    def _making(self, dataset: str, origin: Origin, recorded: dict[str, Any], filters: Iterable[str] | None) -> Making:
        strategy, message, example = (recorded.get(name) for name in ("strategy", "system_message", "id"))
        match, rule = self.recipe.rule(
            collection=origin.collection,
            task=origin.task,
            category=origin.category,
            strategy=strategy,
            system_message=message,
            why_unknown="" if self.memory.holds(origin.collection) else self.memory.absence(origin.collection),
        )
        strategy = strategy or (rule.strategy if rule else None)
        teacher, teacher_kind = self.recipe.teacher(dataset)
        return Making(
            rule=match,
            system_message=message,
            is_expanded=rule is not None and rule.expand == "each",
            system_message_text=self.recipe.system_message_text(message) if message else None,
            has_own_system_message=False,
            strategy=strategy,
            strategy_kind=self.recipe.strategy_kind(strategy) if strategy else None,
            teacher=teacher,
            teacher_kind=teacher_kind,
            filters=None if filters is None else tuple(filters),
            student=self.recipe.student(dataset),
            template=self.recipe.template,
            exchanges=self.answers.exchanges(f"{dataset}/{origin.collection}", example) if example else (),
        )

    def _standing(self, found: Kept) -> Standing:
        record, shard, manifest = found.record, found.shard, self.tables.manifest
        number = int(shard.counts.prefix.rpartition("/")[2])
        phases = read_curriculum(self.tables.directory).phases
        return Standing(
            shard=shard.counts.prefix,
            shards=self.recipe.shards(manifest.datasets[shard.dataset].tokens, record["id"], number),
            row=shard.first + record["row"],
            row_in_shard=record["row"],
            place=record["place"],
            tokens=record["tokens"],
            trained_tokens=record["trained_tokens"],
            row_tokens=manifest.row_tokens,
            flags=tuple(name for bit, name in _FLAGS.items() if record["flags"] & bit),
            turn=None if record.get("turn", ALL_TURNS) == ALL_TURNS else record["turn"],
            window=record.get(WINDOW),
            untrained=tuple(json.loads(record.get(UNTRAINED) or "[]")),
            phases=tuple(
                (number, _passes(phase.rows[shard.dataset], manifest.datasets[shard.dataset].rows))
                for number, phase in enumerate(phases, start=1)
                if shard.dataset in phase.rows
            ),
        )


def _passes(rows: int, size: int) -> int | str:
    """Count a phase's passes through a dataset: a whole number, or a decimal where the last pass ends early."""
    return rows // size if rows % size == 0 else f"{rows / size:.3f}"
