"""One take of a mixture, drawn from the rows of a collection that are left to it.

Groups are what a take counts by: tasks, categories, or all rows together. Each group's draw is a prefix of its keyed
order; with a reserve the prefix is longer, and the order is kept so that a later stage can take the first that pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.errors import MixtureError, Shortfall
from orca_recipes.plan.arrivals import arrival_counts, arrival_times
from orca_recipes.plan.mixture import cut_of, group_counts, water_level, with_reserve
from orca_recipes.recipe.measured import UNITS
from orca_recipes.recipe.mixtures import MOST_REPEATS, Take
from orca_recipes.run.examples.selection import DUPLICATE_ROW, REASONS, mixture_keys, repeated
from orca_recipes.run.mixtures.draw import Chunk, Sizes, drawn_copies, measured
from orca_recipes.run.mixtures.pools import Collection, Grouping

if TYPE_CHECKING:
    import polars as pl


def grouping_of(take: Take) -> Grouping:
    """Choose the column that a take counts by; None for all rows together."""
    if take.per_category is not None:
        return "category"
    return "task" if take.per_task is not None or take.draw != "rows" else None


@dataclass(frozen=True)
class TakeDraw:
    """A take over a collection.

    name: of the collection. selection: int16 [rows], 0 where a row can be drawn. target: rows asked for, or tokens
    where the collection has weights; None where the take says it by group. where: the take's dotted path. tokens_of:
    which tokens the weights are, as the mixture says it.
    """

    take: Take
    name: str
    collection: Collection
    selection: np.ndarray
    target: int | None
    seed: int
    where: str
    tokens_of: str | None = None

    def drawn(self) -> tuple[np.ndarray, dict[str, Any]]:
        """Draw the take; return the selection, and facts for the report.

        Raises: Shortfall where more is asked for than there is; MixtureError where no row has a category to count by.
        """
        wanted = self.wanted()
        return self._selected(self._with_reserve(wanted)), self._facts(wanted)

    def tokens(self, selection: np.ndarray) -> dict[str, Any]:
        """Sum the counted tokens of a selection, if the take counts tokens."""
        if self.collection.weight is None:
            return {}
        copies = np.maximum(selection, 0).astype(np.int64)
        return {"tokens": int((copies * self.collection.weight).sum()), "tokens_of": self.tokens_of}

    def asked(self) -> np.ndarray:
        """Return the selection without a reserve."""
        return self._selected(self.wanted())

    def _selected(self, counts: np.ndarray) -> np.ndarray:
        if self.take.all and self.take.repeat == 1:
            # Taking all once draws nothing: no key is computed and no band is looked for.
            copies = (self.selection == 0).astype(np.int16)
        else:
            cuts = [
                cut_of(int(count), int(size), self.take.repeat) for count, size in zip(counts, self._there, strict=True)
            ]
            copies = drawn_copies(self.chunks, cuts=cuts, sizes=self.sizes, seed=self.seed)
        # What is not drawn keeps the code that says why it could not be.
        return np.where(copies > 0, copies, self.selection)

    def chunks(self) -> Iterator[Chunk]:
        return self.collection.chunks(self.selection)

    def wanted(self) -> np.ndarray:
        """Count the rows (or tokens) wanted of each group, without a reserve: int64 [groups]."""
        self._refuse_nameless()
        target = self._target()
        if self.take.draw == "uniform_tasks":
            return self._arriving(target or 0)
        return np.array(group_counts(self.take, self._there.tolist(), target), dtype=np.int64)

    @cached_property
    def sizes(self) -> Sizes:
        return measured(self.chunks, len(self.collection.names))

    def order(self, selection: np.ndarray) -> tuple[pl.DataFrame, list[int]]:
        """Order the examples of a draw for `keep`, and count those to keep of each group.

        Returns: id_hi, id_lo, group and rank (from 0, in the group) of all examples, repeats among them; the counts.
        """
        import polars as pl

        rows = np.flatnonzero(selection > 0)
        frame = self.collection.ids.select("id_hi", "id_lo")[rows].with_columns(
            pl.Series("group", self._groups_of(rows))
        )
        keys = mixture_keys(id_hi=frame["id_hi"].to_numpy(), id_lo=frame["id_lo"].to_numpy(), seed=self.seed)
        frame = repeated(frame.with_columns(pl.Series("key", keys)), selection[rows])
        # Repeats share their example's key and the high half of its id.
        number = frame.select(n=pl.int_range(pl.len()).over("key", "id_hi"))["n"].to_numpy()
        # Copies that were asked for come in the first round; further ones only once every row has had its turn.
        rounds = np.where(number < self.take.repeat, 0, number)
        hi, lo, key, group = (frame[name].to_numpy() for name in ("id_hi", "id_lo", "key", "group"))
        order = np.lexsort((lo, hi, key, rounds, group))
        frame, group = frame[order], group[order]
        if self.take.draw == "uniform_tasks":
            return self._by_arrival(frame, group), [int(self._target() or 0)]
        rank = np.arange(len(group)) - np.searchsorted(group, group)
        return frame.select("id_hi", "id_lo", "group").with_columns(pl.Series("rank", rank)), self.wanted().tolist()

    @property
    def _there(self) -> np.ndarray:
        return self.sizes.weights

    @property
    def _capacity(self) -> int:
        return int(self._there.sum()) * self.take.most

    def _target(self) -> int | None:
        """Return the amount asked for, at most as much as there is. Raises: Shortfall."""
        if self.target is None or self.target <= self._capacity or self.take.allow_shortfall:
            return None if self.target is None else min(self.target, self._capacity)
        raise Shortfall(self._complaint(self.target))

    def _complaint(self, asked: int) -> str:
        unit = "rows" if self.tokens_of is None else UNITS[self.tokens_of]
        there, capacity = int(self._there.sum()), self._capacity
        times = f" ({there}, each {self.take.most} times)" if self.take.most > 1 and there else ""
        left = [
            f"{number} left out because {reason}"
            for code, reason in REASONS.items()
            if code and (number := int((self.selection == code).sum()))
        ]
        knobs = [f"ask for at most {capacity}"] if capacity else []
        if there and self.take.most == 1 and (often := ceil(asked / there)) <= MOST_REPEATS:
            knobs.append(f"say max_repeat = {often} to repeat rows")
        if (self.selection == DUPLICATE_ROW).any():
            knobs.append('say duplicates = "keep" for the mixture')
        knobs += ["say allow_shortfall = true to take what there is", "or add to the collection"]
        return (
            f"{self.where}: {asked} {unit} are asked for, and there are {capacity}{times} ({asked - capacity} too few)"
            + (f", with {' and '.join(left)}" if left else "")
            + f"; {', '.join(knobs)}"
        )

    def _refuse_nameless(self) -> None:
        """Refuse a count by category if no row has a category."""
        if self.take.per_category is not None and set(self.collection.names) == {None}:
            raise MixtureError(
                f"{self.where}: per_category = {self.take.per_category}, and no row of the collection has a category; "
                "let its source set one, or say rows or per_task"
            )

    def _arriving(self, rows: int) -> np.ndarray:
        tasks = [name or "" for name in self.collection.names]
        capacities = self.sizes.rows * self.take.most
        return arrival_counts(collection=self.name, tasks=tasks, capacities=capacities, rows=rows, seed=self.seed)

    def _with_reserve(self, counts: np.ndarray) -> np.ndarray:
        """Raise the counts by the reserve, so that these are left after filters."""
        if self.take.reserve is None:
            return counts
        if self.take.draw == "uniform_tasks":
            return self._arriving(min(with_reserve(int(counts.sum()), self.take.reserve), self._capacity))
        most = self._there * self.take.most
        more = [with_reserve(int(count), self.take.reserve) for count in counts]
        return np.asarray(np.minimum(np.array(more, dtype=np.int64), most), dtype=np.int64)

    def _facts(self, wanted: np.ndarray) -> dict[str, Any]:
        facts: dict[str, Any] = {}
        if self.target is not None:
            facts["asked"] = self.target
        if self.take.draw == "uniform_tasks":
            facts["level"] = ceil(water_level((self.sizes.rows * self.take.most).tolist(), int(wanted.sum())))
        if self.take.reserve is not None:
            facts["kept_at_most"] = int(wanted.sum())
        return facts

    def _groups_of(self, rows: np.ndarray) -> np.ndarray:
        """Find the groups of drawn rows: int32 [rows]."""
        groups = np.empty(len(self.selection), dtype=np.int32)
        start = 0
        for chunk in self.chunks():
            groups[start : start + len(chunk.group)] = chunk.group
            start += len(chunk.group)
        return np.asarray(groups[rows], dtype=np.int32)

    def _by_arrival(self, frame: pl.DataFrame, group: np.ndarray) -> pl.DataFrame:
        """Order all tasks as one group, as the algorithm draws them; rows of a task stay in its order."""
        import polars as pl

        counts = np.bincount(group, minlength=len(self.collection.names))
        times: Sequence[np.ndarray] = [
            arrival_times(collection=self.name, task=name or "", rows=int(count), seed=self.seed)
            for name, count in zip(self.collection.names, counts, strict=True)
        ]
        order = np.lexsort((group, np.concatenate(times)))
        drawn = frame.select("id_hi", "id_lo")[order]
        rank = pl.int_range(pl.len(), dtype=pl.Int64)
        return drawn.with_columns(pl.lit(0, dtype=pl.Int32).alias("group"), rank.alias("rank"))
