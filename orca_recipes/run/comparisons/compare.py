"""Verb `compare`: which conversations of a dataset are too much like others, by its filters that compare.

All collections of the dataset meet here, and what filters compare them with. The filters are asked in their order,
after all that look at one conversation alone; who was rejected by an earlier one is no twin for a later one. Of
conversations that are alike the first in keyed order stays; the key is the example's, so that its repeats stand and
fall together. Where answers are bought, questions are compared before that, as they were drawn: what is rejected then
is not asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.comparison import Comparison
from orca_recipes.contract.draws import draw_keys
from orca_recipes.counted import counted
from orca_recipes.errors import MixtureError
from orca_recipes.plan.comparisons import QUESTIONS
from orca_recipes.plan.mixing import mixture_collections
from orca_recipes.plan.used_parts import taken_collections
from orca_recipes.run.comparisons.greedy import Verdicts, first_stays
from orca_recipes.run.comparisons.likeness import LikenessTask, Side, likeness_part
from orca_recipes.run.comparisons.meeting import Met, meetings
from orca_recipes.run.comparisons.sketching import (
    HeadTask,
    Pool,
    SketchTask,
    head_part,
    keep_known,
    met,
    read_array,
    shared_system,
    sketch_part,
    without_widely_shared,
)
from orca_recipes.run.examples.read import batches_of
from orca_recipes.run.examples.selection import read_selection, taken_copies
from orca_recipes.run.work.account import ACCOUNT
from orca_recipes.run.work.bench import AnyTask, Bench
from orca_recipes.store.arrow_files import IDS, read_frame, write_frame
from orca_recipes.store.made_conversations import BESIDE, MADE, passed_mask
from orca_recipes.store.stage_folder import PartWriter, StageFolder

if TYPE_CHECKING:
    import polars as pl

_PAIRS = 20_000
"""Pairs that one task holds against each other."""


def make(bench: Bench, folder: StageFolder, subject: str) -> None:
    """Make stage `compare` of a dataset."""
    comparing = _Comparing(bench, folder, subject)
    names = comparing.verdicts()
    rows = sum(pool.count for pool in comparing.own)
    folder.finish(names, {"in": rows, "out": rows, "rejected": {}})
    bench.progress.end(f"{counted(rows, 'conversation')} compared")


def verdict_part(collection: str) -> str:
    """Name the part of stage `compare` that holds a collection's verdicts."""
    return f"of-{collection}"


class _Comparing:
    """A dataset's conversations, and all that they are compared with."""

    def __init__(self, bench: Bench, folder: StageFolder, subject: str) -> None:
        dataset, _, what = subject.partition("/")
        self._bench, self._folder, self._dataset = bench, folder, dataset
        chosen = bench.recipe.datasets[dataset]
        self._kinds = chosen.comparisons_of_questions if what == QUESTIONS else chosen.comparisons
        mine = self._questions if what == QUESTIONS else self._conversations
        self.own = [pool for name in taken_collections(bench.recipe, dataset) for pool in mine(name)]
        others = [self._others(kind) for kind in self._kinds]
        self._of_kind = [{pool.name for pool in found} for found in others]
        self._all = [*self.own, *{pool.name: pool for found in others for pool in found}.values()]
        self._starts = np.cumsum([0, *(pool.count for pool in self._all)])[:-1].tolist()

    def verdicts(self) -> list[str]:
        """Compare, and store what was found of each collection; return the parts' names."""
        import polars as pl

        own = sum(pool.count for pool in self.own)
        shared = self._shared_systems()
        sketches = self._sketched(shared)
        ids = pl.concat([pool.ids() for pool in self._all])
        standing = self._standing(ids, own)
        verdicts = Verdicts.none(own, len(self._kinds))
        for number, kind in enumerate(self._kinds):
            self._judge(number, kind, sketches[number], standing, verdicts, shared)
        return self._keep(verdicts, ids)

    def _conversations(self, collection: str) -> list[Pool]:
        converse = self._bench.folder(f"converse {self._dataset}/{collection}")
        return [
            Pool(
                f"rows-{collection}-{part.name}",
                part.path(MADE),
                collection,
                collection,
                part.report["out"],
                passed_mask(part),
                asked=part.path(BESIDE),
            )
            for part in converse.parts()
            if part.name != ACCOUNT
        ]

    def _questions(self, collection: str) -> list[Pool]:
        """List the pools of a collection's examples to be asked, as they were drawn."""
        drawn = taken_copies(self._bench.mixed(self._dataset, collection)) > 0
        return [
            replace(pool, name=f"asked-{collection}-{pool.path.stem}", is_asked=True)
            for pool in self._examples(collection, collection, drawn)
        ]

    def _others(self, kind: Comparison) -> list[Pool]:
        """List the pools of the examples named by a comparison."""
        found = []
        for collection in kind.collections():
            pools = self._examples(collection, collection, None)
            if not sum(pool.count for pool in pools):
                raise MixtureError(
                    f"datasets.{self._dataset}.filters: {kind.kind} compares with collection {collection}, which has "
                    "no row; mend its path, or take it out of `against`"
                )
            found += pools
        for mixture in kind.mixtures():
            for collection in mixture_collections(self._bench.recipe, mixture):
                drawn = read_selection(self._bench.folder(f"mix {mixture}/{collection}")) > 0
                found += self._examples(collection, mixture, drawn)
        return found

    def _examples(self, collection: str, source: str, drawn: np.ndarray | None) -> list[Pool]:
        read = self._bench.folder(f"read {collection}")
        keep = read_frame(read.file(f"{IDS}.arrow"), columns=["keep"])["keep"].to_numpy()
        rows = keep if drawn is None else keep & drawn
        return [
            Pool(
                name=f"others-{source}-{collection}-{batch.path.stem}",
                path=batch.path,
                of=collection,
                source=source,
                count=int(rows[batch.start : batch.stop].sum()),
                rows=rows[batch.start : batch.stop],
                ids_of=read.file(f"{IDS}.arrow"),
                start=batch.start,
            )
            for batch in batches_of(read)
        ]

    def _shared_systems(self) -> dict[tuple[str, bool], str | None]:
        """Find the system message shared by all rows of a collection, by collection and whether they are examples."""
        tasks = [HeadTask(f"heads-{pool.name}", self._folder.path, pool) for pool in self._all]
        self._run(head_part, tasks)
        groups: dict[tuple[str, bool], list[str]] = {}
        for task in tasks:
            groups.setdefault((task.pool.of, task.pool.is_example), []).append(task.name)
        return {group: shared_system(self._folder, names) for group, names in groups.items()}

    def _sketched(self, shared: dict[tuple[str, bool], str | None]) -> list[tuple[list[Met], np.ndarray]]:
        """Compute, for each comparison, the keys of all rows that may meet, and the keys shared by too many other
        rows."""
        nothing = (None,) * len(self._kinds)
        self._run(sketch_part, [self._task(pool, shared, nothing) for pool in self._all if pool.is_other])
        others, known = [], list[Path | None]()
        for number, kind in enumerate(self._kinds):
            pools = [place for place, pool in enumerate(self._all) if pool.name in self._of_kind[number]]
            found, common = without_widely_shared(self._met(pools, number), kind.most_sharing())
            others.append((found, common))
            known.append(None)
            if not kind.among_themselves():
                keys = np.concatenate([np.empty(0, dtype=np.uint64), *(part.keys for part in found)])
                known[number] = self._folder.path / f"{keep_known(self._folder, f'known-{number}', keys, common)}.npy"
        self._run(sketch_part, [self._task(pool, shared, tuple(known)) for pool in self.own])
        mine = range(len(self.own))
        return [([*self._met(mine, number), *found], common) for number, (found, common) in enumerate(others)]

    def _task(
        self, pool: Pool, shared: dict[tuple[str, bool], str | None], known: tuple[Path | None, ...]
    ) -> SketchTask:
        return SketchTask(pool.name, self._folder.path, pool, self._kinds, shared[pool.of, pool.is_example], known)

    def _met(self, places: Sequence[int], number: int) -> list[Met]:
        names, starts = [self._all[place].name for place in places], [self._starts[place] for place in places]
        return met(self._folder, names, starts, number)

    def _standing(self, ids: pl.DataFrame, own: int) -> _Standing:
        """Order all rows: other examples first, then the dataset's own by the least key of their example."""
        import polars as pl

        seed = self._bench.recipe.seed
        hi, lo = ids["id_hi"].to_numpy(), ids["id_lo"].to_numpy()
        mine = ids.head(own).with_columns(
            key=pl.Series(draw_keys(id_hi=hi, id_lo=lo, seed=seed, purpose="compare")[:own]),
        )
        mine = mine.with_columns(least=pl.col("key").min().over("of", "file", "place"))
        unit = mine.select(pl.struct("of", "file", "place").rank("dense"))["of"].cast(pl.UInt64).to_numpy()
        sorting = np.lexsort((lo[:own], hi[:own], mine["key"].to_numpy(), mine["least"].to_numpy()))
        order = np.zeros(ids.height, dtype=np.int64)
        # Below 0, so that rows of others come before all of the dataset's.
        order[own:] = np.arange(own - ids.height, 0)
        order[sorting] = np.arange(own)
        return _Standing(order, unit)

    def _judge(
        self,
        number: int,
        kind: Comparison,
        sketch: tuple[list[Met], np.ndarray],
        standing: _Standing,
        verdicts: Verdicts,
        shared: dict[tuple[str, bool], str | None],
    ) -> None:
        """Ask one comparison of all rows that no earlier one rejected."""
        parts, common = sketch
        own, alive = len(verdicts.is_rejected), ~verdicts.is_rejected
        leader = self._leaders(number, own, standing, alive)
        stands = alive & (leader == np.arange(own))
        pairs = meetings(
            [_only(part, stands, own) for part in parts],
            order=standing.order,
            own=own,
            unit=standing.unit,
            among=kind.among_themselves(),
            least_estimate=kind.least_estimate(),
        )
        alike = self._likeness(f"alike-{number}", kind, pairs, common, shared)
        twin, share = first_stays(pairs, alike, standing.order, own)
        followers = np.flatnonzero(alive & ~stands)
        target = np.where(twin[leader[followers]] >= 0, twin[leader[followers]], leader[followers])
        same = (target < own) & (standing.unit[np.minimum(target, own - 1)] == standing.unit[followers])
        met_again = np.stack([followers, target], axis=1)[~same]
        again = self._likeness(f"again-{number}", kind, met_again, common, shared)
        found = ~np.isnan(again)
        twin[met_again[found, 0]], share[met_again[found, 0]] = met_again[found, 1], again[found]
        verdicts.add(number, twin, share, rejects=kind.action == "reject")

    def _leaders(self, number: int, own: int, standing: _Standing, alive: np.ndarray) -> np.ndarray:
        """Return int64 [own]: of rows with one signature the first in order, who meets others for all of them."""
        import polars as pl

        path = self._folder.file(f"{self.own[0].name}-{number}-alike.npy") if self.own else None
        if path is None or not path.exists():
            return np.arange(own)
        marks = np.concatenate([read_array(self._folder, f"{pool.name}-{number}-alike") for pool in self.own])
        frame = pl.DataFrame({"mark": marks, "row": np.arange(own), "order": standing.order[:own], "alive": alive})
        frame = frame.with_columns(alone=(pl.col("mark") == 0) | ~pl.col("alive"))
        first = pl.col("row").sort_by("order").first().over("mark", "alone")
        return frame.select(pl.when("alone").then("row").otherwise(first))["row"].to_numpy()

    def _likeness(
        self,
        name: str,
        kind: Comparison,
        pairs: np.ndarray,
        common: np.ndarray,
        shared: dict[tuple[str, bool], str | None],
    ) -> np.ndarray:
        """Return float64 [pairs]: how alike they are, NaN where they are not."""
        bounds = range(0, len(pairs), _PAIRS)
        tasks = [
            LikenessTask(
                f"{name}-{start:012d}",
                self._folder.path,
                kind,
                self._side(pairs[start : start + _PAIRS, 0], shared),
                self._side(pairs[start : start + _PAIRS, 1], shared),
                common,
            )
            for start in bounds
        ]
        self._run(likeness_part, tasks)
        return np.concatenate([np.empty(0), *(read_array(self._folder, task.name) for task in tasks)])

    def _side(self, rows: np.ndarray, shared: dict[tuple[str, bool], str | None]) -> Side:
        """Make one side of some pairs, with only the pools that hold its rows."""
        starts = np.array(self._starts)
        place = np.searchsorted(starts, rows, side="right") - 1
        # Pools without a row begin where the next one does; `right` finds the last of those, which has it.
        used, which = np.unique(place, return_inverse=True)
        pools = tuple(self._all[number] for number in used.tolist())
        heads = tuple(shared[pool.of, pool.is_example] for pool in pools)
        return Side(pools, heads, which.reshape(-1), rows - starts[place])

    def _keep(self, verdicts: Verdicts, ids: pl.DataFrame) -> list[str]:
        """Store what was found, collection by collection."""
        import polars as pl

        names, start = [], 0
        sources = np.repeat(np.arange(len(self._all)), [pool.count for pool in self._all])
        for collection in taken_collections(self._bench.recipe, self._dataset):
            stop = start + sum(pool.count for pool in self.own if pool.of == collection)
            rows, kinds = np.nonzero(verdicts.twin_of[start:stop] >= 0)
            twin = verdicts.twin_of[start:stop][rows, kinds]
            kinds_of = [self._kinds[number] for number in kinds.tolist()]
            told = [
                self._reason(number, self._all[sources[row]])
                for number, row in zip(kinds.tolist(), twin.tolist(), strict=True)
            ]
            frame = pl.DataFrame(
                {
                    "row": rows.astype(np.int64),
                    "id_hi": ids["id_hi"].gather(rows + start),
                    "id_lo": ids["id_lo"].gather(rows + start),
                    "filter": pl.Series([kind.kind for kind in kinds_of], dtype=pl.String),
                    "rejects": pl.Series(
                        [self._kinds[number].action == "reject" for number in kinds], dtype=pl.Boolean
                    ),
                    "reason": pl.Series(told, dtype=pl.String),
                    "twin_hi": ids["id_hi"].gather(twin),
                    "twin_lo": ids["id_lo"].gather(twin),
                    "twin_collection": pl.Series([self._all[sources[row]].of for row in twin], dtype=pl.String),
                    "twin_file": ids["file"].gather(twin),
                    "twin_place": ids["place"].gather(twin),
                    "likeness": verdicts.share_of[start:stop][rows, kinds],
                }
            )
            writer = PartWriter(self._folder.path, verdict_part(collection))
            write_frame(writer.path(".arrow"), frame)
            writer.keep([".arrow"], {"rows": stop - start})
            names.append(verdict_part(collection))
            start = stop
        return names

    def _reason(self, number: int, twin: Pool) -> str:
        return self._kinds[number].reason(other=twin.source if twin.is_other else None)

    def _run(self, function: Callable[[AnyTask], int], tasks: Sequence[AnyTask]) -> None:
        self._bench.map_parts(self._folder, f"compare {self._dataset}", function, tasks, [1] * len(tasks), "parts")


@dataclass(frozen=True)
class _Standing:
    """order: int64 [rows], the place of each. unit: uint64 [own], equal for what was made of one row."""

    order: np.ndarray
    unit: np.ndarray


def _only(part: Met, stands: np.ndarray, own: int) -> Met:
    """Select the keys of own rows that meet others; a part of other rows stays whole."""
    if part.start >= own:
        return part
    chosen = stands[part.rows.astype(np.int64) + part.start]
    return part if chosen.all() else Met(part.keys[chosen], part.rows[chosen], part.start, part.signatures)
