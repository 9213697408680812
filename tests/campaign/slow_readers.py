"""Readers that are slow and obvious, by the standard library alone: what the fast ones are held against."""

import csv
import io
import itertools
import json
import math
import struct
import zlib
from typing import Any

ROLES = ("system", "user", "assistant", "tool")
COLUMNS = ("question", "reference", "task", "id", "system", "answer", "category", "messages")
SPARE = ("question", "reference", "answer")
"""Columns that a conversation which ends with its answer does without."""

CALLED = {"human": "user", "gpt": "assistant"}

Read = tuple[dict[int, dict[str, Any]], set[int]]
"""Rows by place, and the places of those that are rejected."""


class Bad(Exception):
    """A row that cannot be read."""


class Null(Bad):
    """A null among references, which no row may have, whether it needs them or not."""


class Digits(str):
    """An integer."""


class Number:
    """A number that is no integer; spelling: None where JSON does not know it."""

    def __init__(self, spelling: str | None) -> None:
        self.spelling = spelling


def json_lines(data: bytes) -> Read:
    """JSON, one object a line."""
    rows: dict[int, dict[str, Any]] = {}
    bad = set()
    for place, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if line.strip(b" \t\r"):
            try:
                rows[place] = json_row(line)
            except Bad:
                bad.add(place)
    return rows, bad


def json_row(line: bytes) -> dict[str, Any]:
    """One object. Raises: Bad."""
    if too_deep(line):
        raise Bad
    try:
        record = decoded(line.decode())
    except (ValueError, RecursionError):
        raise Bad from None
    return columns(record)


def decoded(text: str) -> Any:
    """JSON with keys given twice kept: an object is a list of pairs in a tuple."""
    return json.loads(
        text,
        object_pairs_hook=lambda pairs: (pairs,),
        parse_int=Digits,
        parse_float=Number,
        parse_constant=lambda _: Number(None),
    )


def columns(record: Any) -> dict[str, Any]:
    """The columns of an object that are ours. Raises: Bad."""
    if not isinstance(record, tuple):
        raise Bad
    held = only(record, "messages")
    talk = None if held is None else messages(held)
    answered = bool(talk) and talk[-1][0] == "assistant"
    found = {"messages": talk}
    for name in COLUMNS[:-1]:
        try:
            held = only(record, name)
            found[name] = None if held is None else texts(name, held)
        except Bad as fault:
            if not answered or name not in SPARE or isinstance(fault, Null):
                raise
    if answered:
        found["answer"] = None
    return {name: found[name] for name in COLUMNS if found.get(name) is not None}


def only(record: Any, name: str) -> Any:
    held = [value for key, value in record[0] if key == name]
    if len(held) > 1:
        raise Bad
    return held[0] if held else None


def texts(name: str, held: Any) -> Any:
    if name == "reference":
        if isinstance(held, list):
            if not all(item is None or isinstance(item, str | Number) for item in held):
                raise Bad
            read = [None if item is None else answer(item) for item in held]
            if None in read:
                raise Null
            return read or None
        return [answer(held)]
    return answer(held) if name == "answer" else sound(held)


def answer(held: Any) -> str:
    """A text, or a number as the shortest one that is the same float."""
    if not isinstance(held, Number):
        return sound(held)
    if held.spelling is None or not math.isfinite(float(held.spelling)):
        raise Bad
    return repr(float(held.spelling))


def sound(text: Any) -> str:
    if not isinstance(text, str):
        raise Bad
    if isinstance(text, Digits):
        return "0" if text == "-0" else str(text)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Bad from None
    return text


def messages(held: Any) -> list[tuple[str, str]]:
    if isinstance(held, str) and not isinstance(held, Digits):
        held = spelt(held)
    if not isinstance(held, list):
        raise Bad
    if held and all(plain(one) is not None for one in held):
        return [(ROLES[1 + place % 2], sound(one)) for place, one in enumerate(held)]
    return [message(one) for one in held]


def spelt(text: str) -> Any:
    """What a text of JSON spells. Raises: Bad."""
    if too_deep(text.encode(errors="replace")):
        raise Bad
    try:
        return decoded(text)
    except (ValueError, RecursionError):
        raise Bad from None


def message(one: Any) -> tuple[str, str]:
    """Role and content, under either name that each may have; any other key must hold nothing."""
    if not isinstance(one, tuple):
        raise Bad
    roles = {CALLED.get(role, role) for key in ("role", "from") if (role := plain(only(one, key))) is not None}
    contents = {text for key in ("content", "value") if (text := plain(only(one, key))) is not None}
    others = [value for key, value in dict(one[0]).items() if key not in ("role", "from", "content", "value")]
    if len(roles) != 1 or len(contents) != 1 or not roles <= set(ROLES) or any(map(holds, others)):
        raise Bad
    return roles.pop(), sound(contents.pop())


def plain(held: Any) -> str | None:
    """A text; what is none is nothing."""
    return held if isinstance(held, str) and not isinstance(held, Digits) else None


def holds(value: Any) -> bool:
    """Whether a value is more than nothing."""
    if isinstance(value, tuple):
        return any(holds(inner) for _, inner in value[0])
    if isinstance(value, list):
        return any(map(holds, value))
    return value is not None and (not isinstance(value, str) or value.strip(" \t\n\r\v\f") not in ("", "[]", "{}"))


def too_deep(line: bytes) -> bool:
    """Whether brackets outside of strings stand more than a hundred deep, byte by byte."""
    depth = deepest = 0
    inside = escaped = False
    for byte in line:
        if inside:
            if escaped:
                escaped = False
            elif byte == ord("\\"):
                escaped = True
            elif byte == ord('"'):
                inside = False
        elif byte == ord('"'):
            inside = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest > 100


def json_list(data: bytes) -> Read | None:
    """A JSON list of rows; None where it is no JSON as a whole, and rows are for the reader to find."""
    try:
        held = decoded(data.removeprefix(b"\xef\xbb\xbf").decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(held, list) or too_deep(data):
        return None
    rows: dict[int, dict[str, Any]] = {}
    bad = set()
    for place, record in enumerate(held, start=1):
        try:
            rows[place] = columns(record)
        except Bad:
            bad.add(place)
    return rows, bad


def delimited(data: bytes) -> Read | None:
    """CSV with a header; None where the csv module itself finds fault with it."""
    try:
        text = data.removeprefix(b"\xef\xbb\xbf").decode()
        reader = csv.reader(io.StringIO(text, newline="\n"), strict=True)
        records, begun = [], 1
        for record in reader:
            if record:
                records.append((begun, reader.line_num, record))
            begun = reader.line_num + 1
    except (ValueError, csv.Error):
        return None
    return table(records)


def tabbed(data: bytes) -> Read | None:
    """TSV without quotes."""
    try:
        text = data.removeprefix(b"\xef\xbb\xbf").decode()
    except ValueError:
        return None
    split = [line.removesuffix("\r") for line in text.split("\n")]
    return table([(place, place, line.split("\t")) for place, line in enumerate(split, start=1) if line])


def table(records: list[tuple[int, int, list[str]]]) -> Read:
    rows: dict[int, dict[str, Any]] = {}
    bad: set[int] = set()
    names = records[0][2] if records else []
    for first, last, fields in records[1:]:
        if len(fields) != len(names):
            bad |= set(range(first, last + 1))
            continue
        named = dict(zip(names, fields, strict=True))
        held = {name: named[name] for name in COLUMNS if named.get(name) or (name == "question" and name in named)}
        rows[first] = {name: [text] if name == "reference" else text for name, text in held.items()}
    return rows, bad


def gunzipped(data: bytes) -> bytes | None:
    """All members of a gzip file; None where one is damaged, cut off, or followed by what is no member.

    Zeros after the last member, which `gzip -d` passes over, are such: a download that was never finished ends so too.
    """
    found = b""
    while data:
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            found += member.decompress(data)
        except zlib.error:
            return None
        if not member.eof:
            return None
        data = member.unused_data
    return found


def index(idx: bytes, stored: bytes) -> list[tuple[list[int], list[tuple[int, int]]]] | None:
    """Rows of a pair: tokens, and length and mode of each segment; None where it breaks a rule of the format."""
    if len(idx) < 34 or idx[:9] != b"MMIDIDX\0\0":
        return None
    version, code, segments, bounds = struct.unpack_from("<QBQQ", idx, 9)
    width = {8: 2, 4: 4}.get(code, 0)
    if version != 1 or not width or len(idx) != 34 + 13 * segments + 8 * bounds or not bounds or len(stored) % width:
        return None
    lengths = struct.unpack_from(f"<{segments}i", idx, 34)
    offsets = struct.unpack_from(f"<{segments}q", idx, 34 + 4 * segments)
    starts = struct.unpack_from(f"<{bounds}q", idx, 34 + 12 * segments)
    modes = struct.unpack_from(f"<{segments}b", idx, 34 + 12 * segments + 8 * bounds)
    guards = len(list(itertools.takewhile(lambda mode: mode == -128, modes[1:])))
    if any(length != 2**31 - 1 for length in lengths[1 : 1 + guards]):
        return None
    if any(offset != -(2**62) for offset in offsets[1 : 1 + guards]):
        return None
    lengths, offsets, modes = (column[:1] + column[1 + guards :] for column in (lengths, offsets, modes))
    segments, starts = segments - guards, (*starts[:1], *(start - guards for start in starts[1:]))
    if starts[0] != 0 or starts[-1] != segments or any(a >= b for a, b in itertools.pairwise(starts)):
        return None
    for length, offset, mode in zip(lengths, offsets, modes, strict=True):
        if length < 1 or not 0 <= mode <= 19 or offset < 0 or offset % width or offset + length * width > len(stored):
            return None
    if not all(modes[start] & 2 for start in starts[:-1]):
        return None
    rows = []
    for first, stop in itertools.pairwise(starts):
        tokens: list[int] = []
        for length, offset in zip(lengths[first:stop], offsets[first:stop], strict=True):
            tokens += struct.unpack_from(f"<{length}{'H' if width == 2 else 'i'}", stored, offset)
        rows.append((tokens, list(zip(lengths[first:stop], modes[first:stop], strict=True))))
    return rows
