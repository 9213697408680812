"""Facts of a row kept by the store alone: why a draw left it out, its rank there, its category.

A build says by fingerprint which stages it was made of, so a store that holds them holds the very rows; one that does
not is named in the answer, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.draws import id_text
from orca_recipes.plan.comparisons import compared_questions
from orca_recipes.plan.stages import Stage
from orca_recipes.run.comparisons.compare import verdict_part
from orca_recipes.run.comparisons.compared_texts import EXAMPLE, compared_texts
from orca_recipes.run.examples.read import Batch, batches_of
from orca_recipes.run.examples.selection import REASONS, mixture_keys, read_selection
from orca_recipes.shards.manifest import StageIdentity
from orca_recipes.store.arrow_files import IDS, read_frame
from orca_recipes.store.shared_store import is_store, store_at, store_name
from orca_recipes.store.stage_folder import StageFolder

if TYPE_CHECKING:
    import polars as pl

# 128 bits in hexadecimal digits; the copies that a mixture makes of a row share the first half.
ID_DIGITS = 32


@dataclass(frozen=True)
class StoredRow:
    """A row as it was read; has_id: False where its own id stands on an earlier row."""

    id: str
    has_id: bool
    file: str | None
    place: int
    task: str
    category: str | None


class StoreMemory:
    """The rows of a build's `read` stages, as far as the store still holds them."""

    def __init__(self, root: Path, plan: Iterable[StageIdentity]) -> None:
        self._root, plan = root, tuple(plan)
        # A stage's folder is found by verb and fingerprint, which the build keeps; what it was made of is not needed.
        self._stages = {
            stage.name.partition(" ")[2]: Stage("read", stage.name.partition(" ")[2], "", {}, (), stage.fingerprint)
            for stage in plan
            if stage.verb == "read"
        }
        self._mixes = {
            stage.name: Stage("mix", stage.name.partition(" ")[2], "", {}, (), stage.fingerprint)
            for stage in plan
            if stage.verb == "mix"
        }
        self._comparisons = {
            stage.name: Stage("compare", stage.name.partition(" ")[2], "", {}, (), stage.fingerprint)
            for stage in plan
            if stage.verb == "compare"
        }
        # A store is made where there is none, and to ask is no reason to make one.
        self._store = store_at(root) if is_store(root) else None

    def holds(self, collection: str) -> bool:
        return self._store is not None and self._folder(collection).finished

    def absence(self, collection: str) -> str:
        """Say why nothing is known of a collection's rows."""
        if self._store is None:
            return f"there is no store at {store_name(self._root)}"
        return f"the store at {store_name(self._root)} no longer holds stage read {collection}"

    def rows_at(self, collection: str, file: str | None, place: int) -> list[StoredRow]:
        """Find the rows read at a place; none where the store does not hold the collection."""
        import polars as pl

        return self._matching(collection, pl.col("file").eq_missing(file) & (pl.col("place") == place))

    def row(self, collection: str, wanted: str) -> StoredRow | None:
        """Find the row with this id, or the row that an example with this id repeats: repeats share the high half."""
        return next(iter(self.rows_beginning(collection, wanted[: ID_DIGITS // 2])), None)

    def alike(self, dataset: str, collection: str, wanted: str) -> list[dict[str, Any]]:
        """Return the findings of comparing filters about an example of a dataset, as stage `compare` keeps them."""
        hi, lo = halves(wanted)
        for name in (compared_questions(dataset), f"compare {dataset}"):
            stage = self._comparisons.get(name)
            if self._store is None or stage is None or not self._store.folder(stage).finished:
                continue
            found = read_frame(self._store.folder(stage).file(f"{verdict_part(collection)}.arrow"))
            # The store keeps a finding for each example that was compared; most have none, and the next stage may.
            if told := list(found.filter(id_hi=hi, id_lo=lo).iter_rows(named=True)):
                return told
        return []

    def text(self, collection: str, wanted: str) -> str | None:
        """Return question and answer of a row as it was read; None where the store does not hold it."""
        if not self.holds(collection):
            return None
        hi, lo, keep = self._ids(collection)
        places = np.flatnonzero(_begins(hi, lo, wanted[: ID_DIGITS // 2]) & keep)[:1].tolist()
        for batch in self._batches(collection) if places else ():
            if batch.start <= places[0] < batch.stop:
                row = read_frame(batch.path, columns=EXAMPLE)[places[0] - batch.start]
                return "\n".join(text for text in compared_texts(row, shared=None).row(0) if text)
        return None

    def left_out(self, mix: str, collection: str, wanted: str) -> str | None:
        """Return a `mix` stage's reason for leaving an example out; None where it did not, or the reason is not
        known."""
        selection = self._selection(mix)
        if selection is None or not self.holds(collection):
            return None
        hi, lo, keep = self._ids(collection)
        (place,) = np.flatnonzero(_begins(hi, lo, wanted) & keep)[:1]
        return REASONS.get(int(selection[place]))

    def rows_beginning(self, collection: str, prefix: str) -> list[StoredRow]:
        """Find the first rows (two at most) with an id that begins with prefix: hexadecimal digits in lower case."""
        if not self.holds(collection) or not _is_hexadecimal(prefix):
            return []
        hi, lo, keep = self._ids(collection)
        places = np.flatnonzero(_begins(hi, lo, prefix) & keep)[:2]
        return [self._row_number(collection, int(place)) for place in places]

    def files(self, collection: str) -> set[str]:
        """Return the names of the files that rows were read from."""
        return {
            name
            for batch in self._batches(collection)
            for name in read_frame(batch.path, columns=["file"])["file"].unique().drop_nulls()
        }

    def rank(self, mix: str, collection: str, wanted: str, *, seed: int) -> int | None:
        """Return an example's rank, from 1, in keyed order among all rows that a stage `mix` could draw.

        Returns: None where that is not known, or the example could not be drawn.
        """
        if not self.holds(collection):
            return None
        hi, lo, keep = self._ids(collection)
        selection = self._selection(mix)
        if selection is not None:
            keep = selection >= 0
            if not (_begins(hi, lo, wanted) & keep).any():
                return None
        hi, lo = hi[keep], lo[keep]
        keys = mixture_keys(id_hi=hi, id_lo=lo, seed=seed)
        my_hi, my_lo = halves(wanted)
        mine = int(key_of(wanted, seed=seed), 16)
        # Keys of 64 bits may tie; the draw then goes by the id, so the rank must, too.
        tied = (keys == np.uint64(mine)) & ((hi < my_hi) | ((hi == my_hi) & (lo < my_lo)))
        return 1 + int((keys < np.uint64(mine)).sum()) + int(tied.sum())

    def _selection(self, mix: str) -> np.ndarray | None:
        if self._store is None or mix not in self._mixes:
            return None
        folder = self._store.folder(self._mixes[mix])
        return read_selection(folder) if folder.finished else None

    def _folder(self, collection: str) -> StageFolder:
        assert self._store is not None
        return self._store.folder(self._stages[collection])

    def _ids(self, collection: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        frame = read_frame(self._folder(collection).file(f"{IDS}.arrow"))
        return frame["id_hi"].to_numpy(), frame["id_lo"].to_numpy(), frame["keep"].to_numpy()

    def _batches(self, collection: str) -> Iterator[Batch]:
        if self.holds(collection):
            yield from batches_of(self._folder(collection))

    def _matching(self, collection: str, condition: pl.Expr) -> list[StoredRow]:
        found = []
        for batch in self._batches(collection):
            rows = read_frame(batch.path, columns=["file", "place"]).with_row_index("number").filter(condition)
            found += [self._row_number(collection, batch.start + number) for number in rows["number"]]
        return found

    def _row_number(self, collection: str, number: int) -> StoredRow:
        batch = next(batch for batch in self._batches(collection) if batch.start <= number < batch.stop)
        columns = ["file", "place", "task", "category"]
        file, place, task, category = read_frame(batch.path, columns=columns).row(number - batch.start)
        hi, lo, keep = read_frame(self._folder(collection).file(f"{IDS}.arrow")).row(number)
        return StoredRow(id_text(int(hi), int(lo)), bool(keep), file, place, task, category)


def key_of(wanted: str, *, seed: int) -> str:
    """Compute the key by which a mixture draws an example, as 16 hexadecimal digits."""
    hi, lo = (np.array([half]) for half in halves(wanted))
    return f"{int(mixture_keys(id_hi=hi, id_lo=lo, seed=seed)[0]):016x}"


def halves(wanted: str) -> tuple[np.uint64, np.uint64]:
    """Split an id into its two uint64 halves, high and low."""
    return np.uint64(int(wanted[:16], 16)), np.uint64(int(wanted[16:], 16))


def _is_hexadecimal(text: str) -> bool:
    return 0 < len(text) <= ID_DIGITS and all(digit in "0123456789abcdef" for digit in text)


def _begins(hi: np.ndarray, lo: np.ndarray, prefix: str) -> np.ndarray:
    (first_hi, first_lo), (last_hi, last_lo) = (halves(prefix.ljust(ID_DIGITS, digit)) for digit in "0f")
    return np.asarray((hi >= first_hi) & (hi <= last_hi) & ((lo >= first_lo) & (lo <= last_lo)))
