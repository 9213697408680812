"""CSV and TSV, by the standard csv module where fields are quoted.

Row by row, because only so a record's physical lines are known. A record that cannot be read rejects every line that it
covers: a quote that is never closed may have swallowed sound rows, and one rejection would hide how many.
"""

import csv
import io
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from orca_plugins.sources.files.arrow_types import beside_texts, plain
from orca_plugins.sources.files.checked_rows import Finish, Rejections, Table
from orca_plugins.sources.files.chosen_rows import fields_compared
from orca_plugins.sources.files.columns import Wanted, columns_in_file, shown, shown_path
from orca_plugins.sources.files.json_rows.strict_json import BAD_TEXT
from orca_plugins.sources.files.places.byte_stream import chunks, line_blocks
from orca_plugins.sources.files.turns.message_keys import carried_of, given_twice, holds, lost_of_row, watched
from orca_recipes.contract.frames import BESIDE_MESSAGES
from orca_recipes.contract.kinds import Reading, SourceFile
from orca_recipes.errors import SourceError

if TYPE_CHECKING:
    import pyarrow as pa

FIELD_CHARS = 32 << 20
"""The longest field. Without a bound, one stray quote would gather the rest of a large file in memory."""

FEWER, MORE = "fewer fields than the first row", "more fields than the first row"
BAD_QUOTES = "quotes that are not closed, or text after a closing quote"
BARE_RETURN = "a carriage return outside of quotes"
TOO_LONG = f"a field of more than {FIELD_CHARS} characters"


@dataclass(frozen=True)
class Record:
    """A record between its first and last physical line; `reason` says why it has no fields."""

    first: int
    last: int
    fields: list[str]
    reason: str = ""


@dataclass
class _Texts:
    """The file's lines as text; `blocks` counts how many blocks have been taken, for batches of bounded size."""

    file: SourceFile
    blocks: int = 0
    clean: bool = True

    def __iter__(self) -> Iterator[str]:
        for block in line_blocks(chunks(self.file.path)):
            self.blocks += 1
            # Bytes that are not UTF-8 become surrogates, so that only their row is rejected.
            text = block.decode(errors="surrogateescape")
            self.clean = self.clean and _is_utf8(text)
            # Lines end at line feeds alone, as their places are counted.
            yield from io.StringIO(text, newline="\n")


@dataclass
class _Batch:
    """Records of the right length, and rejections, since a block was begun."""

    block: int = 1
    places: list[int] = field(default_factory=list)
    records: list[list[str]] = field(default_factory=list)
    rejected: Rejections = field(default_factory=list)

    def take(self, record: Record, *, width: int, clean: bool) -> None:
        """Add a record, or the rejection of each of its lines."""
        reason = record.reason
        if not reason and len(record.fields) != width:
            reason = FEWER if len(record.fields) < width else MORE
        if reason:
            self.rejected += [(place, reason) for place in range(record.first, record.last + 1)]
        elif clean or all(map(_is_utf8, record.fields)):
            self.places.append(record.first)
            self.records.append(record.fields)
        else:
            self.rejected.append((record.first, BAD_TEXT))

    def readings(
        self, columns: dict[str, int], beside: dict[str, int], tools: list[int], wanted: Wanted, finish: Finish
    ) -> Iterator[Reading]:
        """Yield one Reading, or none.

        Args:
            columns: ours to the position of the field. beside: those that rows, or rows with messages, must not have.
                tools: those that hold tools.
        """
        if self.places or self.rejected:
            records = self.records
            faults: dict[int, str] = {}
            arrays = {
                ours: _column(ours, [record[at] for record in records], wanted, faults) for ours, at in columns.items()
            }
            if tools:
                arrays["tools"] = _tools([[record[at] for record in records] for at in tools], faults)
            always = {*watched(wanted, with_messages=False)}
            talks = arrays["messages"].is_valid().to_pylist() if "messages" in arrays else [False] * len(records)
            for row, record in enumerate(records if beside else ()):
                watched_here = [at for at in beside.items() if talks[row] or at[0] in always]
                if lost := [name for name, at in watched_here if holds(record[at])]:
                    faults[row] = lost_of_row(lost, wanted)
            yield finish.reading([Table(np.array(self.places, np.int64), arrays, self.rejected, faults=faults)])


def read(
    *, file: SourceFile, delimiter: str, quote: str, header: bool, wanted: Wanted, finish: Finish
) -> Iterator[Reading]:
    """Read the file in batches.

    Args:
        quote: one character, or "" where quotes are text.
    Raises: SourceError where the header cannot be used.
    """
    texts = _Texts(file)
    records = _quoted(texts, delimiter, quote) if quote else _unquoted(texts, delimiter)
    batch, columns, beside, tools = _Batch(), dict[str, int](), dict[str, int](), list[int]()
    first = _first_row(file, records, batch, header)
    if first is not None:
        names = first.fields if header else [str(number) for number in range(1, len(first.fields) + 1)]
        columns = _positions(file, wanted, names)
        carried = carried_of(wanted).get("tools", ())
        beside = {name: names.index(name) for name in watched(wanted, with_messages=True) if name in names}
        tools = [beside.pop(name) for name in carried if name in beside]
        for record in records if header else itertools.chain([first], records):
            if texts.blocks > batch.block:
                yield from batch.readings(columns, beside, tools, wanted, finish)
                batch = _Batch(block=texts.blocks)
            batch.take(record, width=len(names), clean=texts.clean)
    yield from batch.readings(columns, beside, tools, wanted, finish)


def column_names(file: SourceFile, *, delimiter: str, quote: str) -> list[str]:
    """List the columns named in the header; empty where it cannot be read."""
    texts = _Texts(file)
    records = _quoted(texts, delimiter, quote) if quote else _unquoted(texts, delimiter)
    first = next(records, None)
    return [] if first is None or first.reason else [name for name in first.fields if name]


def _first_row(file: SourceFile, records: Iterator[Record], batch: _Batch, header: bool) -> Record | None:
    """Return the first record with fields, None if there is none; reject those before it, or refuse the file if it
    should be the header."""
    for record in records:
        if not record.reason:
            return record
        if header:
            raise SourceError(
                f"{shown_path(file.path)}: the header on line {record.first} cannot be read: {record.reason}"
            )
        batch.take(record, width=0, clean=True)
    return None


def _positions(file: SourceFile, wanted: Wanted, names: list[str]) -> dict[str, int]:
    """Map ours to the position of their column."""
    where = shown_path(file.path)
    twice = [name for name, times in Counter(names).items() if times > 1 and name]
    if twice:
        raise SourceError(f'{where}: two columns are called "{shown(twice[0])}"; rename one')
    if not all(_is_utf8(name) for name in names):
        raise SourceError(f"{where}: the names of the columns are not UTF-8")
    found = columns_in_file(file=where, wanted=wanted, names=names)
    return {ours: names.index(theirs) for ours, theirs in found.items()}


def _quoted(texts: _Texts, delimiter: str, quote: str) -> Iterator[Record]:
    # The limit belongs to the whole process; it is only ever raised, so that nobody who set a larger one is cut short.
    csv.field_size_limit(max(csv.field_size_limit(), FIELD_CHARS))
    # Without strict, an unclosed quote or text after a closing one would pass in silence.
    reader = csv.reader(texts, delimiter=delimiter, quotechar=quote, strict=True)
    while True:
        first = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            yield Record(first, reader.line_num, [], _reason(str(error)))
            continue
        if fields is None:
            return
        if fields:
            yield Record(first, reader.line_num, fields)


def _unquoted(texts: _Texts, delimiter: str) -> Iterator[Record]:
    for place, line in enumerate(texts, start=1):
        bare = line.removesuffix("\n").removesuffix("\r")
        if bare:
            yield Record(place, place, bare.split(delimiter))


def _reason(error: str) -> str:
    if "field limit" in error:
        return TOO_LONG
    return BARE_RETURN if "new-line" in error else BAD_QUOTES


def _column(ours: str, values: list[str], wanted: Wanted, faults: dict[int, str]) -> "pa.Array":
    """Convert fields of text to one of our columns: an empty field is an empty question, null elsewhere. Rows that
    cannot be read or compared are added to faults."""
    import pyarrow as pa

    if ours in wanted.sorts:
        return fields_compared(ours, values, wanted, faults)
    if ours in BESIDE_MESSAGES:
        read = _texts_beside(ours, values, faults)
        return pa.array([read.get(row) for row in range(len(values))], pa.large_string())
    texts = values if ours == "question" else [value or None for value in values]
    return plain(ours, pa.array(texts, pa.large_string()), wanted)


def _texts_beside(ours: str, values: list[str], faults: dict[int, str]) -> dict[int, str]:
    """Read what fields bring beside a question, by row."""
    import pyarrow as pa

    fields = pa.array([value or None for value in values], pa.large_string())
    read, misread = beside_texts(ours, fields, np.array(fields.is_valid()))
    faults |= misread
    return read


def _tools(columns: list[list[str]], faults: dict[int, str]) -> "pa.Array":
    """Read the tools that fields of one or more columns hold; those that differ are a fault."""
    import pyarrow as pa

    texts: dict[int, str] = {}
    for values in columns:
        read = _texts_beside("tools", values, faults)
        faults |= {row: given_twice("tools") for row, text in read.items() if texts.get(row, text) != text}
        texts = read | texts
    return pa.array([texts.get(row) for row in range(len(columns[0]))], pa.large_string())


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
