"""Examples of a dataset as columns to compare two builds by: id, digests, place.

All of it comes from records and indexes, so the cost is that of the tables: tokens are read only of builds whose
records hold no digests by XXH3. 80 bytes an example are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orca_recipes.contract.draws import digests, splitmix64
from orca_recipes.shards.files import damage
from orca_recipes.shards.ids_digest import BLAKE2B, XXH3, ids_digests
from orca_recipes.shards.idx_file import read_index
from orca_recipes.shards.layout import STARTS, index_path, records_path, tokens_path
from orca_recipes.shards.manifest import Manifest, ShardCounts
from orca_recipes.shards.proven_files import prove_files
from orca_recipes.shards.reader import Shard
from orca_recipes.shards.records import WINDOW, Records, read_columns
from orca_recipes.shards.segments import Segments
from orca_recipes.shards.text_columns import is_null, numbers

SAID = ("collection", "task", "file", "line", "strategy", "system_message", "teacher", "flags", "teacher_view")
"""Columns of a record that say where an example comes from and how it was asked for."""
_READ = ("row", "place", "id", "turn", WINDOW, "text_digest", XXH3, BLAKE2B, *SAID)
# A mode is one byte, so that no two pairs of position and mode give one number.
_MODES = np.uint64(256)


@dataclass(frozen=True)
class ExampleColumns:
    """The examples of one dataset, shard after shard.

    high, low: uint64 [examples], halves of the id, into which the turn is mixed: an example's name.
    ids, text: uint64 [examples, 2], digests of all tokens and of the trained text. mask: uint64 [examples], a hash of
    which tokens are trained and of their roles. about: uint64, a hash of what else its record says (SAID).
    shard: int32 [examples], number of the shard in the dataset. example: int32, number in the shard.
    row, place: int32, where it stands in the shard.
    """

    high: np.ndarray
    low: np.ndarray
    ids: np.ndarray
    text: np.ndarray
    mask: np.ndarray
    about: np.ndarray
    shard: np.ndarray
    example: np.ndarray
    row: np.ndarray
    place: np.ndarray

    def __len__(self) -> int:
        return len(self.high)


def example_columns(directory: Path, promised: Manifest, dataset: str, said: Callable[[int], None]) -> ExampleColumns:
    """Read the columns of a dataset; a build that lacks it has no examples of it.

    Args:
        said: is told of the examples of each shard that was read.
    Raises: DamagedShard where a table or an index is not the one that was promised.
    """
    counts = promised.datasets.get(dataset)
    shards = () if counts is None else counts.shards
    whole = _room_for(sum(shard.examples for shard in shards))
    first = 0
    for number, shard in enumerate(shards):
        span = slice(first, first + shard.examples)
        for name, values in _of_shard(directory, promised, number, shard):
            # Straight into its place, so that no column is ever held twice.
            getattr(whole, name)[span] = values
        first += shard.examples
        said(shard.examples)
    return whole


def mask_hashes(segments: Segments) -> np.ndarray:
    """Hash which tokens of each example are trained, and their roles: uint64 [examples].

    A span adds the hash of its end and takes that of its beginning, so it does not matter where equal spans are parted.
    """
    starts = segments.example_starts
    of_segment = np.repeat(segments.example_bounds[:-1], np.diff(starts))
    begin = (segments.token_starts[:-1] - of_segment).astype(np.uint64)
    end = (segments.token_starts[1:] - of_segment).astype(np.uint64)
    code = (segments.modes & ~np.int8(STARTS)).view(np.uint8).astype(np.uint64)
    terms = splitmix64(end * _MODES + code) - splitmix64(begin * _MODES + code)
    return np.asarray(np.add.reduceat(terms, starts[:-1])) if len(starts) > 1 else np.zeros(0, dtype=np.uint64)


def _of_shard(
    directory: Path, promised: Manifest, number: int, counts: ShardCounts
) -> Iterator[tuple[str, np.ndarray | int]]:
    """Yield each column of ExampleColumns with its values in one shard."""
    prefix = Path(counts.prefix)
    prove_files(directory, promised, (path(prefix).as_posix() for path in (records_path, index_path)))
    path = records_path(directory / prefix)
    records = read_columns(path, _READ)
    index = read_index(index_path(directory / prefix), proven=True)
    segments = Segments(index.lengths, index.modes, index.row_starts)
    if not len(records.table) == segments.examples == counts.examples:
        found = f"{len(records.table)} lines, where the index has {segments.examples} examples"
        raise damage(path, f"it has {found} and the manifest {counts.examples}")
    turns = records.parts().view(np.uint64)
    # Turns and windows of a conversation share its id: mixed with them, each has a name of its own.
    yield "high", records.ids[:, 0] ^ splitmix64(turns)
    yield "low", records.ids[:, 1] ^ splitmix64(~turns)
    yield "text", records.text_digests
    ids = records.ids_digests if records.ids_column == XXH3 else None
    yield "ids", _digests_of_tokens(directory, promised, prefix) if ids is None else ids
    yield "row", records.column("row")
    yield "place", records.column("place")
    yield "about", _hashes_of(records)
    yield "mask", mask_hashes(segments)
    yield "shard", number
    yield "example", np.arange(len(records.table), dtype=np.int32)


def _hashes_of(records: Records) -> np.ndarray:
    """Hash the columns SAID together: uint64 [examples]. Every distinct text is hashed once."""
    import pyarrow as pa

    total = np.zeros(len(records.table), dtype=np.uint64)
    for name in SAID:
        column = records.table[name].combine_chunks()
        if pa.types.is_integer(column.type):
            hashes = splitmix64(numbers(column.drop_null()).astype(np.int64).view(np.uint64))
        else:
            # Names of tasks and teachers come again and again: each is hashed once, and taken by its number.
            coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
            # Text of data may hold half a surrogate pair, which strict UTF-8 refuses.
            of_values, _ = digests(value.encode("utf-8", "surrogatepass") for value in coded.dictionary.to_pylist())
            hashes = of_values[numbers(coded.indices.drop_null())]
        found = np.zeros(len(column), dtype=np.uint64)
        found[~is_null(column)] = hashes
        total = splitmix64(total ^ found)
    return total


def _digests_of_tokens(directory: Path, promised: Manifest, prefix: Path) -> np.ndarray:
    """Compute the digests of tokens, which records of format 1 do not hold, and those of early checkouts otherwise."""
    prove_files(directory, promised, [tokens_path(prefix).as_posix()])
    shard = Shard.open(directory / prefix)
    bounds = shard.segments.example_bounds
    rows = (shard.row(row).tokens for row in range(shard.rows))
    return ids_digests(np.concatenate(list(rows)), bounds) if shard.rows else np.zeros((0, 2), dtype=np.uint64)


def _room_for(examples: int) -> ExampleColumns:
    pairs, number = (examples, 2), np.int32
    return ExampleColumns(
        high=np.empty(examples, dtype=np.uint64),
        low=np.empty(examples, dtype=np.uint64),
        ids=np.empty(pairs, dtype=np.uint64),
        text=np.empty(pairs, dtype=np.uint64),
        mask=np.empty(examples, dtype=np.uint64),
        about=np.empty(examples, dtype=np.uint64),
        shard=np.empty(examples, dtype=number),
        example=np.empty(examples, dtype=number),
        row=np.empty(examples, dtype=number),
        place=np.empty(examples, dtype=number),
    )
