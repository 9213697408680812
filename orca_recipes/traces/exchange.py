"""Traces as files that others read: JSON lines and Parquet, out and in.

What comes in is checked like anything from a stranger: every field is held against its bounds, and a trace is taken
only if its key is the digest of the question that stands beside it, because a wrong key would answer questions that
nobody asked. It stands behind what was bought here, unless it is asked to replace that.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orca_recipes.counted import counted
from orca_recipes.errors import UserError
from orca_recipes.json_text import json_value
from orca_recipes.traces.bounds import check_bounds
from orca_recipes.traces.trace_lines import BESIDE_TEXT, DIGEST_DIGITS, Trace, as_json, encode, from_json
from orca_recipes.traces.trace_store import TraceStore

if TYPE_CHECKING:
    import pyarrow as pa

# Bounds the traces in memory, however long a file is.
_BATCH = 5_000
_REASONS_SHOWN = 5
_BESIDE_QUESTIONS = ("beside", "tools")


@dataclass
class Imported:
    """Counts of an import: traces taken, already there, refused (place and reason of the first).

    behind: of those taken, how many stand behind another answer to the same request. replaced: stored answers that
    count for nothing any more.
    """

    taken: int = 0
    known: int = 0
    refused: int = 0
    behind: int = 0
    replaced: int = 0
    reasons: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = f"{self.taken:,} taken, {self.known:,} there already, {self.refused:,} refused"
        told += f"; {self.behind:,} stand behind stored answers (--replace drops those)" if self.behind else ""
        return told + (f"; {counted(self.replaced, 'stored answer')} replaced" if self.replaced else "")

    def refuse(self, place: int, reason: str) -> None:
        self.refused += 1
        if len(self.reasons) < _REASONS_SHOWN:
            self.reasons.append(f"{place}: {reason}")


def export_traces(traces: TraceStore, path: Path, *, keys: Set[bytes] | None = None) -> int:
    """Write all traces, each once, in the order of the segments; return how many. The suffix says how: .jsonl or
    .parquet.

    keys: of the requests whose answers are written, all where it is not given.
    """
    chosen = (trace for trace in _distinct(traces) if keys is None or trace.answer.key in keys)
    tables = map(as_json, chosen)
    aside = path.with_name(f".{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        number = _write_parquet(aside, tables) if _is_parquet(path) else _write_json(aside, tables)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return number


def import_traces(traces: TraceStore, path: Path, *, replace: bool = False) -> Imported:
    """Take the traces of a file that are sound and new; those that are not are refused and counted, place by place.

    Args:
        replace: whether all other stored answers to the same requests are dropped, once the file's are on the disk.
    Raises: UserError where the file cannot be read at all.
    """
    held, keys = set[bytes](), set[bytes]()
    for each in traces.traces():
        held.add(_digest(each))
        keys.add(each.answer.key)
    imported, named = Imported(), dict[bytes, set[bytes]]()
    tables = _parquet_tables(path) if _is_parquet(path) else _json_tables(path)
    while batch := list(islice(tables, _BATCH)):
        fresh = []
        for place, table in batch:
            trace = _checked(place, table, imported)
            if trace is None:
                continue
            digest, key = _digest(trace), trace.answer.key
            named.setdefault(key, set()).add(digest)
            if digest in held:
                imported.known += 1
            else:
                imported.behind += key in keys and not replace
                held.add(digest)
                fresh.append(trace)
        if fresh:
            traces.take_in(fresh)
            imported.taken += len(fresh)
    if replace:
        others = [place for place, trace in traces.placed() if _is_other(trace, named)]
        traces.drop(others)
        imported.replaced = len(others)
    return imported


def _is_other(trace: Trace, named: Mapping[bytes, set[bytes]]) -> bool:
    """Tell whether a trace answers a request named in the file, but is not the file's own answer."""
    digests = named.get(trace.answer.key)
    return digests is not None and _digest(trace) not in digests


def _checked(place: int, table: Any, imported: Imported) -> Trace | None:
    try:
        if isinstance(table, Exception):
            raise ValueError("it is not JSON")
        if isinstance(table, dict):
            check_bounds(table)
        trace = from_json(table)
        if trace.question is None:
            raise ValueError("it holds no question to check its key by")
        if trace.question.key() != trace.answer.key:
            raise ValueError("its key is not that of its question")
    except (ValueError, TypeError) as error:
        imported.refuse(place, str(error))
        return None
    return Trace(trace.answer.as_kept(), trace.question)


def _is_parquet(path: Path) -> bool:
    if path.suffix not in (".jsonl", ".parquet"):
        raise UserError(f"{path}: name it .jsonl or .parquet, which says how traces are written in it")
    return path.suffix == ".parquet"


def _json_tables(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: it cannot be read ({error.strerror})") from error
    with file:
        for place, line in enumerate(file, start=1):
            try:
                yield place, json.loads(line)
            except (ValueError, RecursionError) as error:
                yield place, ValueError(str(error))


def _schema() -> pa.Schema:
    import pyarrow as pa

    texts = ("key", "text", "finish_reason", "reason", "model_asked", "model_reported", "endpoint", "request_id")
    counts = ("input_tokens", "cached_input_tokens", "output_tokens", "max_tokens")
    message = pa.struct([("role", pa.large_string()), ("content", pa.large_string())])
    return pa.schema(
        [(name, pa.large_string()) for name in (*texts, *BESIDE_TEXT, "tools")]
        + [(name, pa.int64()) for name in counts]
        + [("time", pa.float64()), ("messages", pa.list_(message)), ("sampling", pa.large_string())]
        + [("sample", pa.int64()), ("beside", pa.list_(pa.large_string()))]
    )


def _write_json(path: Path, tables: Iterable[dict[str, Any]]) -> int:
    number = 0
    with path.open("w", encoding="ascii") as file:  # many readers take U+2028 for a line end, and files hold none then
        for table in tables:
            file.write(json.dumps(table, sort_keys=True) + "\n")
            number += 1
    return number


def _write_parquet(path: Path, tables: Iterable[dict[str, Any]]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, number = map(_flat, tables), 0
    with pq.ParquetWriter(path, _schema()) as writer:
        while batch := list(islice(rows, _BATCH)):
            writer.write_table(pa.Table.from_pylist(batch, schema=_schema()))
            number += len(batch)
    return number


def _flat(table: dict[str, Any]) -> dict[str, Any]:
    """Flatten a trace's JSON table to a row of Parquet."""
    question = table["question"]
    flat = {name: value for name, value in table.items() if name != "question"}
    if question is None:
        return flat
    messages = [{"role": role, "content": content} for role, content in question["messages"]]
    sampling = json.dumps(question["sampling"], sort_keys=True)
    beside = {name: question.get(name) for name in _BESIDE_QUESTIONS}
    return {**flat, "messages": messages, "sampling": sampling, "sample": question["sample"], **beside}


def _distinct(traces: TraceStore) -> Iterator[Trace]:
    seen: set[bytes] = set()
    for trace in traces.traces():
        digest = _digest(trace)
        if digest not in seen:
            seen.add(digest)
            yield trace


def _digest(trace: Trace) -> bytes:
    return encode(trace)[:DIGEST_DIGITS]


def _parquet_tables(path: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: it cannot be read as Parquet ({error})") from error
    place = 0
    try:
        for batch in file.iter_batches(batch_size=_BATCH):
            for row in batch.to_pylist():
                place += 1
                yield place, _nested(row)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: it cannot be read as Parquet beyond row {place} ({error})") from error


def _nested(row: dict[str, Any]) -> Any:
    """Nest a row of Parquet into the table `from_json` takes."""
    asked = ("messages", "sampling", "sample", *_BESIDE_QUESTIONS)
    flat = {name: value for name, value in row.items() if name not in asked}
    if row.get("messages") is None:
        return {**flat, "question": None}
    try:
        messages = [[message["role"], message["content"]] for message in row["messages"]]
        sampling = json_value(row["sampling"])
    except (ValueError, TypeError, KeyError) as error:
        return ValueError(str(error))
    beside = {name: row[name] for name in _BESIDE_QUESTIONS if row.get(name) is not None}
    return {**flat, "question": {"messages": messages, "sampling": sampling, "sample": row["sample"], **beside}}
