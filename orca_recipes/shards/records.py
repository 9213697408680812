"""The tables of a dataset that training never reads: where each example came from, and where each lost row went.

`<dataset>/<shard>.records.parquet` has one line for each example of a shard, in the order of its rows;
`<dataset>/rejected.parquet` has one line for each row that is not in the dataset.

Ids and digests are 16 bytes each. Format 1 wrote them as hexadecimal digits, and neither `turn` nor digests of tokens:
its tables are read as those of format 2, with -1 and null there.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from orca_recipes.shards.files import damage
from orca_recipes.shards.ids_digest import BLAKE2B, XXH3
from orca_recipes.shards.text_columns import WIDTH, binary_of_digits, digits_of, halves_of, numbers

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from orca_recipes.errors import DamagedShard
from orca_recipes.objects.copies import at_hand

CUT = 1
"""Flag: the teacher did not finish the last answer, so it has no terminator."""
TRUNCATED = 2
"""Flag: packing cut the end of the last answer, so it has no terminator."""
TURNS_DROPPED = 4
"""Flag: packing took away the newest turns."""

HISTORY_DROPPED = 8
"""Flag: the oldest exchanges were left out, so that the rest fits into a row."""
TAIL_TRIMMED = 16
"""Flag: the conversation went on behind its last answer; told where examples are made to fit into a row."""
FLAGS = CUT | TRUNCATED | TURNS_DROPPED | HISTORY_DROPPED | TAIL_TRIMMED

REJECTED_NAME = "rejected.parquet"
TWIN = "twin"
"""The column of rejected rows that names, of a duplicate, the example that was kept; format 1 listed no duplicates."""
NOT_DRAWN = "not drawn"
ELSEWHERE = "an earlier collection holds its question"
"""What builds said of rows whose opening stands in an earlier collection, before whole contexts were compared."""
DUPLICATE = "duplicate: an earlier collection holds its whole context"
EXCLUDED = "an excluded mixture holds its question"
RESERVED = "an excluded mixture holds its question in reserve"
HELD_OUT = "its question is held out"
OTHER_TASK = "its task is not taken"
COUNTED = (NOT_DRAWN, ELSEWHERE, EXCLUDED, RESERVED, HELD_OUT, OTHER_TASK)
"""The reasons of rows that a mixture left out: stages count them, and no table lists them, because they may outnumber
the dataset itself."""

ALL_TURNS = -1
"""The `turn` of an example that holds all turns of its conversation."""

GIVEN = "given"
"""The column of what inference is given for an example; a table has it only where one of its examples has it."""

WINDOW = "window"
"""The column of which window of a long example one is, from 1; null where an example is whole. As GIVEN."""

BY_PART = ("trained_reasoning", "trained_content", "trained_tool_calls")
"""The columns of trained tokens by part, where a recipe says which parts are trained; null of windows. As GIVEN."""

TRAIN_ON = "train_on"
"""The column of the parts of answers that are trained ("reasoning+content"), where a rule says which. As GIVEN."""

UNTRAINED = "untrained"
"""The column of answers that filters left untrained: JSON, a list of {"turn", "stage", "reason"}. As GIVEN."""

SOMETIMES = (GIVEN, *BY_PART, WINDOW, TRAIN_ON, UNTRAINED)
"""The columns that a table has only where one of its examples has a value."""

_MAY_BE_NULL = frozenset({"file", "line", "question_digest", "teacher_view", "kept_question_digest", *SOMETIMES})
_NEW = ("turn", XXH3, TWIN)
"""The columns that format 1 does not have."""


@dataclass(frozen=True)
class Records:
    """The records table of one shard as columns.

    table: as `records_schema`; `ids_xxh3` is null throughout in format 1.
    """

    table: pa.Table

    @cached_property
    def ids(self) -> np.ndarray:
        """Return uint64 [examples, 2], high and low half."""
        return self._halves("id")

    def column(self, name: str) -> np.ndarray:
        """Return a column of numbers without nulls as an array."""
        return numbers(self.table[name].combine_chunks())

    def parts(self) -> np.ndarray:
        """Return int64 [examples]: the same number for the same turns and window of a conversation alone."""
        turns = self.column("turn").astype(np.int64)
        if WINDOW not in self.table.column_names:
            return turns
        windows = numbers(self.table[WINDOW].combine_chunks().fill_null(0)).astype(np.int64)
        # Turns are int32, so both fit in one number without meeting.
        return np.asarray(turns + (windows << 32))

    def example_id(self, example: int) -> str:
        return "".join(f"{half:016x}" for half in self.ids[example].tolist())

    def is_cut(self) -> np.ndarray:
        """Return bool [examples]: whose last answer has no end."""
        return np.asarray(self.column("flags") & (CUT | TRUNCATED), dtype=np.bool_)

    @cached_property
    def text_digests(self) -> np.ndarray:
        """Return uint64 [examples, 2], high and low half."""
        return self._halves("text_digest")

    @cached_property
    def ids_digests(self) -> np.ndarray | None:
        """Return the digests of token ids, as `text_digests`; None in format 1."""
        return None if self.ids_column is None else self._halves(self.ids_column)

    @property
    def ids_column(self) -> str | None:
        """Return the column of `ids_digests`, which tells how they were taken; None in format 1."""
        name = XXH3 if XXH3 in self.table.column_names else BLAKE2B
        return None if self.table[name].null_count else name

    def readable(self) -> pa.Table:
        """Return the table with ids and digests as hexadecimal digits, for people to read."""
        return readable(self.table)

    def counts(self) -> Mapping[tuple[str, str], tuple[int, int, int]]:
        """Map (collection, task) to examples, tokens and trained tokens."""
        import pyarrow as pa

        (collections, of_collection), (tasks, of_task) = self._coded("collection"), self._coded("task")
        pairs = np.ascontiguousarray(of_collection * max(len(tasks), 1) + of_task)
        # Those that there are: rows may name as many tasks as they like.
        coded = pa.Array.from_buffers(pa.int64(), len(pairs), [None, pa.py_buffer(pairs)]).dictionary_encode()
        pair = numbers(coded.indices)
        # Sums stay far below 2^53, up to which doubles are exact.
        sums = (np.bincount(pair, weights=self.column(name)) for name in ("tokens", "trained_tokens"))
        found: dict[tuple[str, str], tuple[int, int, int]] = {}
        for number, *counts in zip(coded.dictionary.to_pylist(), np.bincount(pair), *sums, strict=True):
            collection, task = divmod(number, len(tasks))
            examples, tokens, trained = map(int, counts)
            found[collections[collection], tasks[task]] = examples, tokens, trained
        return found

    def _halves(self, name: str) -> np.ndarray:
        return halves_of(cast("pa.FixedSizeBinaryArray", self.table[name].combine_chunks()))

    def _coded(self, name: str) -> tuple[list[str], np.ndarray]:
        """Dictionary-encode a column without nulls: its texts, and the index of each example's, int64 [examples]."""
        coded = self.table[name].combine_chunks().dictionary_encode()
        return coded.dictionary.to_pylist(), numbers(coded.indices).astype(np.int64)


def records_schema(*, also: Collection[str] = ()) -> pa.Schema:
    """Return the columns of records, one line an example.

    Args:
        also: of the columns SOMETIMES, those that the table has. BLAKE2B without XXH3 takes its place, as in builds of
            early checkouts.

    row: of the shard. place: tokens stored before the example in its row (pads are never stored).
    turn: which trained turn of its conversation an example was made for, ALL_TURNS where it holds all of them.
    file, line: the source's; null where examples are generated.
    strategy, system_message, teacher: the recipe's names, "" where there is none. flags: CUT, TRUNCATED, TURNS_DROPPED,
    HISTORY_DROPPED, TAIL_TRIMMED.
    text_digest: of the trained text. ids_xxh3: of the example's tokens, context and all (`ids_digest`).
    question_digest: of the question before any template; null in datasets that no other one is kept
    apart from.
    teacher_view: the teacher's prompt as references to the student's messages (JSON, see docs/format.md).
    kept_question_digest: of the last question as the tokenizer keeps it. Both are null where the student sees what the
    teacher saw.
    given: the conversation with its tools and variables (JSON, `contract.templates.dialogues`), where the template
    rendered it whole; null where its messages are told by the tokens. window: see WINDOW, BY_PART, TRAIN_ON and
    UNTRAINED.
    """
    import pyarrow as pa

    columns: list[tuple[str, pa.DataType]] = [
        ("row", pa.int32()),
        ("place", pa.int32()),
        ("id", pa.binary(WIDTH)),
        ("turn", pa.int32()),
        ("collection", pa.large_string()),
        ("task", pa.large_string()),
        ("file", pa.large_string()),
        ("line", pa.int64()),
        ("strategy", pa.large_string()),
        ("system_message", pa.large_string()),
        ("teacher", pa.large_string()),
        ("tokens", pa.int32()),
        ("trained_tokens", pa.int32()),
        ("flags", pa.int8()),
        ("text_digest", pa.binary(WIDTH)),
        (BLAKE2B if BLAKE2B in also and XXH3 not in also else XXH3, pa.binary(WIDTH)),
        ("question_digest", pa.binary(WIDTH)),
        ("teacher_view", pa.dictionary(pa.int32(), pa.large_string())),
        ("kept_question_digest", pa.binary(WIDTH)),
    ]
    words = pa.dictionary(pa.int32(), pa.large_string())
    others = {**dict.fromkeys((GIVEN, TRAIN_ON, UNTRAINED), words), **dict.fromkeys((*BY_PART, WINDOW), pa.int32())}
    return pa.schema([*columns, *((name, others[name]) for name in SOMETIMES if name in also)])


def rejected_schema() -> pa.Schema:
    """Return the columns of rejected rows, one line a row.

    id is null where the row was never read. twin: the id of the row that holds the context of a duplicate, or that the
    row is too much like, else null.
    """
    import pyarrow as pa

    columns: list[tuple[str, pa.DataType]] = [
        ("id", pa.binary(WIDTH)),
        ("collection", pa.large_string()),
        ("file", pa.large_string()),
        ("line", pa.int64()),
        ("stage", pa.large_string()),
        ("reason", pa.large_string()),
        (TWIN, pa.binary(WIDTH)),
    ]
    return pa.schema(columns)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table and wait until it is on disk, under its own name: whoever publishes it writes it aside first."""
    import pyarrow.parquet as pq

    with path.open("wb") as file:
        pq.write_table(table, file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())


def read_table(path: Path, schema: pa.Schema) -> pa.Table:
    """Read a table with exactly these columns, from whichever Parquet writer.

    Raises: DamagedShard where it cannot be read or its columns are others.
    """
    return with_columns(path, stored_table(path), schema)


def stored_table(path: Path) -> pa.Table:
    """Read a whole Parquet file with the schema stored in it.

    Raises: DamagedShard where it cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(at_hand(path)) as file:
            return file.read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def with_columns(path: Path, stored: pa.Table, schema: pa.Schema) -> pa.Table:
    """Cast a table of either format to exactly these columns.

    Args:
        path: named in the complaint.
    Raises: DamagedShard where its columns are others.
    """
    import pyarrow as pa

    asked = [name for name in stored.column_names if name in schema.names or name not in SOMETIMES]
    stored = _in_format_2(path, stored.select(asked), schema)
    if stored.schema.names != schema.names:
        raise damage(path, f"its columns are {', '.join(stored.schema.names)}, not {', '.join(schema.names)}")
    try:
        return stored.cast(schema)
    except pa.ArrowException as error:
        raise _unreadable(path, error) from error


def read_records(path: Path) -> tuple[Records | None, list[str]]:
    """Read the records of a shard; None, with the faults, where they cannot be used.

    Raises: DamagedShard where the file cannot be read or its columns are others.
    """
    return records_of(path, stored_table(path))


def read_columns(path: Path, names: Sequence[str]) -> Records:
    """Read some columns of records whose digest was held against the manifest; texts are read as dictionaries. Of
    columns that not every table has, those that are there.

    Raises: as `read_records`; DamagedShard too where a column has nulls that may have none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = records_schema(also=SOMETIMES)
    texts = [field.name for field in schema if field.name in names and pa.types.is_large_string(field.type)]
    try:
        with pq.ParquetFile(at_hand(path), read_dictionary=texts) as file:
            held = file.schema_arrow.names
            if held == records_schema(also=held).names:
                return Records(file.read(columns=[name for name in names if name in held], use_threads=False))
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    records, faults = read_records(path)
    if records is None:
        raise damage(path, faults[0])
    return Records(records.table.select([name for name in names if name in records.table.column_names]))


def records_of(path: Path, stored: pa.Table) -> tuple[Records | None, list[str]]:
    """Check a table already read and return its records, as `read_records`."""
    table = with_columns(path, stored, records_schema(also=stored.column_names))
    may_be_null = _MAY_BE_NULL | ({*_NEW} - {*stored.schema.names})
    nulls = [name for name in table.column_names if table[name].null_count and name not in may_be_null]
    faults = [f'column "{name}" has {table[name].null_count} nulls, and may have none' for name in nulls]
    return (None if faults else Records(table)), faults


def all_turns(examples: int) -> pa.Array[Any]:
    """Create the column `turn` of examples that hold all turns of their conversations."""
    import pyarrow as pa

    turns = np.full(examples, ALL_TURNS, dtype=np.int32)
    return pa.Array.from_buffers(pa.int32(), examples, [None, pa.py_buffer(turns)])


def readable(table: pa.Table) -> pa.Table:
    """Convert ids and digests of a build's table to 32 hexadecimal digits, for people to read."""
    import pyarrow as pa

    for place, field in enumerate(table.schema):
        if pa.types.is_fixed_size_binary(field.type):
            digits = digits_of(cast("pa.FixedSizeBinaryArray", table[place].combine_chunks()))
            table = table.set_column(place, field.name, digits)
    return table


def _unreadable(path: Path, error: Exception) -> DamagedShard:
    return damage(path, f"it cannot be read ({next(iter(str(error).splitlines()), 'no reason given')})")


def _in_format_2(path: Path, stored: pa.Table, schema: pa.Schema) -> pa.Table:
    """Convert a table of format 1 to format 2; any other stays as it is.

    Raises: DamagedShard where it is of format 1 and its ids and digests are no hexadecimal digits.
    """
    import pyarrow as pa

    if stored.schema.names not in (schema.names, [name for name in schema.names if name not in _NEW]):
        return stored
    for place, name in enumerate(stored.schema.names):
        if pa.types.is_fixed_size_binary(schema.field(name).type) and _is_text(stored.schema.field(name).type):
            digits = stored[place].cast(pa.large_binary()).combine_chunks()
            found = binary_of_digits(cast("pa.LargeBinaryArray", digits))
            if found is None:
                raise damage(path, f'column "{name}" holds values that are not 32 hexadecimal digits')
            stored = stored.set_column(place, name, found)
    for name in (name for name in schema.names if name not in stored.schema.names):
        nothing = pa.nulls(len(stored), schema.field(name).type)
        stored = stored.append_column(name, all_turns(len(stored)) if name == "turn" else nothing)
    return stored.select(schema.names)


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(is_kind(kind) for is_kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))
