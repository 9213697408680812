"""JSON lines by pyarrow, with a reason for every line that is not read.

pyarrow gives up on a whole block for one bad line. A block that it refuses is cut in halves until few lines are left,
and those are read one by one: so one bad row in a million costs little, and fast and slow agree on every row.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from orca_plugins.sources.files.arrow_types import column_type, plain
from orca_plugins.sources.files.checked_rows import Table
from orca_plugins.sources.files.columns import LISTS, Wanted, routes
from orca_plugins.sources.files.json_rows.jsonl_trusted_lines import Lines
from orca_plugins.sources.files.json_rows.key_scan import Seen, seen_in
from orca_plugins.sources.files.json_rows.strict_json import BAD_TEXT, TOO_DEEP, BadRow, Digits, decode, nested_too_deep
from orca_plugins.sources.files.row_records import Rows, found_value
from orca_plugins.sources.files.turns.message_keys import PARTS, texts_of
from orca_plugins.sources.files.turns.spelt_messages import is_spelt
from orca_recipes.contract.frames import BESIDE_MESSAGES

if TYPE_CHECKING:
    import pyarrow as pa

# Where the fast reader misses, halves are tried until they are this small: below it the slow reader costs less than
# another try.
_FEW = 256
_SAMPLE = 32
# pyarrow's block_size is an int32.
_LARGEST_SPAN = 1 << 30


def read_lines(lines: Lines, wanted: Wanted) -> list[Table]:
    """Read lines into tables as large as the fast reader takes; lines that it misses come first."""
    sample = list(objects_in(line for _, line in lines.part(0, _SAMPLE)))
    schema = _schema(sample, wanted)
    if schema is None:
        return [_slow(lines, wanted)]
    whole = _fast(lines, wanted, schema, others="error")
    if whole is not None:
        return [whole]
    seen = seen_in(lines.sure(), wanted)
    odd, others = seen.lines.parted()
    schema = _schema(sample, wanted, seen)
    assert schema is not None, "what made it none is the sample, and it was looked at before"
    return [
        *([_slow(odd, wanted)] if len(odd) else []),
        *(_tables(others, wanted, schema) if len(others) else []),
    ]


def objects_in(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the objects among some lines, skipping any line that cannot be read."""
    for line in lines:
        try:
            record = _record(line)
        except BadRow:
            continue
        if isinstance(record, dict):
            yield record


def _tables(lines: Lines, wanted: Wanted, schema: "pa.Schema") -> Iterator[Table]:
    """Yield the lines in order, in tables as large as the fast reader takes."""
    table = _fast(lines, wanted, schema, others="ignore")
    if table is not None:
        yield table
    elif len(lines) <= _FEW:
        yield _slow(lines, wanted)
    else:
        middle = len(lines) // 2
        yield from _tables(lines.part(0, middle), wanted, schema)
        yield from _tables(lines.part(middle, len(lines)), wanted, schema)


def _fast(lines: Lines, wanted: Wanted, schema: "pa.Schema", others: Literal["error", "ignore"]) -> Table | None:
    """Read lines by pyarrow; None where one of them needs a closer look.

    Args:
        others: what pyarrow does about columns that are not wanted. If they are an error, every value read has a type
            and none can be misread, so lines need not be sure (`Lines.sure`), a check that takes as long again.
    """
    import pyarrow as pa
    import pyarrow.json

    span = lines.span()
    if not lines.plain.all() or len(span) > _LARGEST_SPAN or not _is_utf8(span):
        return None
    # One block: pyarrow refuses an object that straddles two.
    reading = pyarrow.json.ReadOptions(use_threads=False, block_size=len(span))
    parsing = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=others)
    try:
        table = pyarrow.json.read_json(pa.BufferReader(span), read_options=reading, parse_options=parsing)
    # Not told here: the slow reader finds the line and says what is wrong with it.
    except pa.ArrowException:
        return None
    # As many rows as plain lines means one a line; pyarrow itself does not look at line ends.
    if table.num_rows != len(lines):
        return None
    columns = {ours: plain(ours, _pick(table, path), wanted) for ours, path in wanted.paths.items()}
    return Table(places=lines.places, columns=columns, rejected=[])


def _slow(lines: Lines, wanted: Wanted) -> Table:
    """Read lines one by one, so that each bad one gets its reason."""
    rows = Rows(wanted)
    for place, line in lines:
        try:
            rows.add(place, _record(line))
        except BadRow as reason:
            rows.reject(place, str(reason))
    return rows.table()


def value_of_line(line: bytes) -> Any:
    """Decode a line; return a BadRow if it cannot be read."""
    try:
        return _record(line)
    except BadRow as reason:
        return reason


def _record(line: bytes) -> Any:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise BadRow(BAD_TEXT) from None
    # Before the parser sees it: that calls itself for each bracket, and would end the stack.
    if nested_too_deep(line):
        raise BadRow(TOO_DEEP)
    return decode(text)


def _is_utf8(span: memoryview) -> bool:
    """Tell whether all bytes are UTF-8, even in skipped columns, without a copy."""
    import pyarrow as pa

    offsets = pa.py_buffer(np.array([0, len(span)], np.int64))
    text = pa.LargeStringArray.from_buffers(1, offsets, pa.py_buffer(span))
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _pick(table: "pa.Table", path: str) -> "pa.Array":
    """Take a column, row by row from the first route on which there is a value."""
    import pyarrow.compute as pc

    found = []
    for first, *rest in routes(path):
        array = table.column(first)
        array = array.chunk(0) if array.num_chunks == 1 else array.combine_chunks()
        for key in rest:
            array = pc.struct_field(array, key)
        found.append(array)
    return pc.coalesce(*found) if len(found) > 1 else found[0]


def _schema(sample: list[dict[str, Any]], wanted: Wanted, seen: Seen | None = None) -> "pa.Schema | None":
    """Return types for the wanted columns, guessed from the first lines; None where names contradict each other.

    Args:
        seen: what all lines hold, where they were looked at: then messages get all that is read of them.
    A wrong guess costs time, never a row: pyarrow refuses the block, and it is read line by line.
    """
    import pyarrow as pa

    tree: dict[str, Any] = {}
    for ours, path in wanted.paths.items():
        stored = _guess(ours, path, sample, wanted, seen)
        if stored is None:
            return None
        for *outer, last in routes(path):
            node = tree
            for key in outer:
                node = node.setdefault(key, {})
                if not isinstance(node, dict):
                    return None
            if node.setdefault(last, stored) != stored:
                return None
    return pa.schema(_fields(tree))


def _fields(tree: dict[str, Any]) -> "list[pa.Field]":
    import pyarrow as pa

    return [pa.field(key, pa.struct(_fields(node)) if isinstance(node, dict) else node) for key, node in tree.items()]


def _guess(
    ours: str, path: str, sample: list[dict[str, Any]], wanted: Wanted, seen: Seen | None
) -> "pa.DataType | None":
    """Guess a column's type from the first lines; None where only reading line by line can tell."""
    import pyarrow as pa

    if ours in wanted.sorts:
        return None if wanted.sorts[ours] == "any" else column_type(ours, wanted)
    if ours in BESIDE_MESSAGES:
        return None
    if any(key.isdecimal() for route in routes(path)[1:] for key in route):
        return None  # an index into a list, or a key that looks like one
    if ours == "messages" and wanted.asks_last:
        return pa.list_(pa.list_(pa.string()))
    if ours == "messages" and any(is_spelt(value) for value in _values(ours, path, sample)):
        return None
    if ours == "messages" and wanted.rewrites_messages:
        return None
    if ours == "messages":
        turns = (turn for value in _values(ours, path, sample) if isinstance(value, list) for turn in value)
        found = {key for turn in turns if isinstance(turn, dict) for key in turn} if seen is None else {*seen.parts}
        parts = [key for key in (*PARTS, *texts_of(wanted)) if key in found] or [*PARTS[:1]]
        flags = {} if seen is None else {flag: pa.bool_() if yes else pa.float64() for flag, yes in seen.flags.items()}
        return pa.list_(pa.struct([*((key, pa.string()) for key in parts), *flags.items()]))
    first = next(_values(ours, path, sample), None)
    if ours == "answer" and isinstance(first, list):
        return None
    if ours in LISTS and isinstance(first, list):
        item = next((item for item in first if item is not None), None)
        return pa.list_(pa.int64() if isinstance(item, Digits) else pa.string())
    return pa.int64() if isinstance(first, Digits) else pa.string()


def _values(ours: str, path: str, sample: list[dict[str, Any]]) -> Iterator[Any]:
    for record in sample:
        try:
            value = found_value(record, ours, path)
        except BadRow:
            continue
        if value is not None:
            yield value
