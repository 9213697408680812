"""What became of a row, dataset by dataset: kept, rejected, not drawn, or unknown where the store is gone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orca_recipes.run.explain_build import BuildTables, Kept, Lost, stage_counts
from orca_recipes.run.explain_page import (
    KEPT,
    NOT_DRAWN,
    REJECTED,
    UNKNOWN,
    Draw,
    Fate,
    Making,
    Origin,
    Standing,
    Story,
)
from orca_recipes.run.explain_recipe import WrittenRecipe
from orca_recipes.run.explain_store import StoredRow, StoreMemory, key_of
from orca_recipes.shards.curriculum import read_curriculum
from orca_recipes.shards.manifest import read_manifest
from orca_recipes.shards.records import CUT, TRUNCATED, TURNS_DROPPED

_FLAGS = {CUT: "cut", TRUNCATED: "truncated", TURNS_DROPPED: "turns_dropped"}


@dataclass(frozen=True)
class AskedRow:
    """A row that is asked for: where the tables mention it, and what the store knows of it.

    example: its id, None where it never got one. file, place: as asked, where the row is known by its place alone.
    exists: False where neither the build nor the store can say whether there is such a row.
    """

    collection: str
    example: str | None
    kept: Sequence[Kept] = ()
    lost: Sequence[Lost] = ()
    stored: StoredRow | None = None
    file: str | None = None
    place: int | None = None
    exists: bool = True


@dataclass(frozen=True)
class BuildStories:
    """A build that is asked for the stories of its rows."""

    tables: BuildTables
    recipe: WrittenRecipe
    memory: StoreMemory

    @classmethod
    def open(cls, directory: Path, store: Path) -> BuildStories:
        """Raises: BuildError where there is no build; DamagedShard."""
        manifest = read_manifest(directory)
        tables = BuildTables(directory, manifest)
        return cls(tables, WrittenRecipe(manifest.recipe), StoreMemory(store, manifest.plan))

    def collections(self) -> list[str]:
        """The collections that the build read, in the order of the plan."""
        return [stage.name.partition(" ")[2] for stage in self.tables.manifest.plan if stage.verb == "read"]

    def story(self, row: AskedRow) -> Story:
        """What became of a row in each dataset that takes its collection."""
        if row.stored is None and row.example is not None:
            row = replace(row, stored=self.memory.row(row.collection, row.example))
        origin = self._origin(row)
        fates = [
            fate
            for dataset, counts in self.tables.manifest.datasets.items()
            if (drawn := stage_counts(counts, f"mix {dataset}/{row.collection}")) is not None
            for fate in self._fates(dataset, drawn, origin, row)
        ]
        return Story(origin, tuple(fates))

    def is_all_known(self, collection: str) -> bool:
        """Whether every row of a collection can be told of: from the store, or because a dataset took them all."""
        if self.memory.holds(collection):
            return True
        pairs = [
            stage_counts(counts, f"mix {dataset}/{collection}")
            for dataset, counts in self.tables.manifest.datasets.items()
        ]
        return any(pair is not None and pair[0] == pair[1] for pair in pairs)

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

    def _fates(self, dataset: str, drawn: tuple[int, int], origin: Origin, row: AskedRow) -> Iterator[Fate]:
        kept = [found for found in row.kept if found.shard.dataset == dataset]
        lost = [found for found in row.lost if found.dataset == dataset]
        draw = self._draw(dataset, drawn, origin)
        yield from (self._kept(found, draw, origin) for found in kept)
        yield from (self._rejected(found, draw, origin) for found in lost)
        if kept or lost:
            return
        if not row.exists:
            why = self.memory.absence(origin.collection)
            yield Fate(dataset, UNKNOWN, reason=f"not drawn, or no such row: {why}", draw=draw)
        elif drawn[0] > drawn[1]:
            yield Fate(dataset, NOT_DRAWN, draw=draw)
        else:
            why = "the dataset takes it, and none of its tables mentions it; run `orca-recipe verify`"
            yield Fate(dataset, UNKNOWN, reason=why, draw=draw)

    def _draw(self, dataset: str, drawn: tuple[int, int], origin: Origin) -> Draw:
        mixture, take, rows = self.recipe.take(dataset, origin.collection)
        there, taken = drawn
        seed = self.recipe.seed
        key = rank = unknown = None
        if taken < there and origin.id is not None:
            key = key_of(origin.id, seed=seed)
            rank = self.memory.rank(origin.collection, origin.id, seed=seed)
            unknown = self.memory.absence(origin.collection) if rank is None else None
        return Draw(
            mixture=mixture,
            take=take,
            taken=taken,
            there=there,
            is_limited=taken < (there if rows is None else rows),
            key=key,
            rank=rank,
            unknown=unknown,
        )

    def _kept(self, found: Kept, draw: Draw, origin: Origin) -> Fate:
        filters = [text for _, text in self.recipe.filters(found.shard.dataset)]
        making = self._making(found.shard.dataset, origin, found.record, filters)
        is_drawn_or_erased = found.record["system_message"] or self.recipe.erases(found.shard.dataset)
        own = not is_drawn_or_erased and self.tables.has_system_message(found)
        making = replace(making, has_own_system_message=own)
        return Fate(found.shard.dataset, KEPT, draw=draw, making=making, standing=self._standing(found))

    def _rejected(self, found: Lost, draw: Draw, origin: Origin) -> Fate:
        stage, reason = found.record["stage"], found.record["reason"]
        if stage == "read":
            return Fate(found.dataset, REJECTED, stage, reason)
        if stage == "pack":
            reason = f"{reason} ({self.recipe.packing})"
        recorded = {"strategy": stage.removeprefix("strategy ")} if stage.startswith("strategy ") else {}
        making = self._making(found.dataset, origin, recorded, self._passed(found.dataset, stage))
        return Fate(found.dataset, REJECTED, stage, reason, draw, making)

    def _passed(self, dataset: str, stage: str) -> list[str] | None:
        """The filters that kept a row which a stage rejected; None where it never came to them."""
        verb, _, name = stage.partition(" ")
        filters = self.recipe.filters(dataset)
        if verb == "filter":
            here = next((number for number, (kind, _) in enumerate(filters) if kind == name), len(filters))
            return [text for _, text in filters[:here]]
        return None if verb in ("strategy", "teacher") else [text for _, text in filters]

    def _making(self, dataset: str, origin: Origin, recorded: dict[str, Any], filters: Iterable[str] | None) -> Making:
        strategy, message = recorded.get("strategy"), recorded.get("system_message")
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
            system_message_text=self.recipe.system_message_text(message) if message else None,
            has_own_system_message=False,
            strategy=strategy,
            strategy_kind=self.recipe.strategy_kind(strategy) if strategy else None,
            teacher=teacher,
            teacher_kind=teacher_kind,
            filters=None if filters is None else tuple(filters),
            student=self.recipe.student(dataset),
            template=self.recipe.template,
        )

    def _standing(self, found: Kept) -> Standing:
        record, shard, manifest = found.record, found.shard, self.tables.manifest
        number = int(shard.counts.prefix.rpartition("/")[2])
        phases = [(phase.dataset, phase.epochs) for phase in read_curriculum(self.tables.directory).phases]
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
            phases=self.recipe.phases(shard.dataset, phases),
        )
