"""Index of answers in the segments: a local SQLite file that can be thrown away at any time.

It follows the segments: `refresh` reads what they gained. It lies on this machine even where the segments lie on a
shared file system, whose locks SQLite cannot trust.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from orca_recipes.contract.answers import CUT, Answer
from orca_recipes.errors import TraceError
from orca_recipes.traces.drops import drop_files, read_drops
from orca_recipes.traces.trace_lines import decode, is_time
from orca_recipes.traces.trace_segments import IMPORTED, Line, lines_from, segments

# SQLite before 3.32 takes at most 999 parameters in a statement.
_ASK_FOR = 500
# Bounds the rows in memory while a large segment is read.
_STORE_EVERY = 20_000
# Another process may be reading gigabytes of segments into the index.
_PATIENCE_SECONDS = 600
_SCHEMA = """
CREATE TABLE IF NOT EXISTS segments (id INTEGER PRIMARY KEY, name TEXT UNIQUE, stop INTEGER, damaged INTEGER);
CREATE TABLE IF NOT EXISTS answers (
    key BLOB, imported INTEGER, time REAL, line BLOB, segment INTEGER, offset INTEGER, bytes INTEGER,
    cut INTEGER, rejected INTEGER, empty INTEGER, input_tokens INTEGER, output_tokens INTEGER, max_tokens INTEGER);
CREATE INDEX IF NOT EXISTS by_key ON answers (key);
CREATE TABLE IF NOT EXISTS drop_files (name TEXT PRIMARY KEY, stop INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS drops (
    segment TEXT, offset INTEGER, line BLOB, key BLOB, PRIMARY KEY (segment, offset, line)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS dropped_key ON drops (key);
CREATE TABLE IF NOT EXISTS claims (key BLOB PRIMARY KEY, owner TEXT) WITHOUT ROWID;
PRAGMA user_version = 2;
"""
_VERSION = 2
# These are made anew from the segments; claims and drops stay as they are.
_OLD_TABLES = ("segments", "answers")
_COLUMNS = 13
_NOT_DROPPED = (
    "NOT EXISTS (SELECT 1 FROM drops "
    "WHERE drops.segment = name AND drops.offset = answers.offset AND drops.line = answers.line)"
)


@dataclass(frozen=True, order=True)
class Entry:
    """Position of an answer, and the facts to judge it by; entries of one key are used in this order.

    is_imported: what was bought comes first. time: infinite where it cannot be. line: the digest of its line, so that
    equal times have an order too.
    """

    is_imported: bool
    time: float
    line: bytes
    segment: str
    offset: int
    bytes: int
    is_cut: bool
    is_rejection: bool
    is_empty: bool
    input_tokens: int | None
    output_tokens: int | None
    max_tokens: int | None


class Index:
    """The index of a folder of segments."""

    def __init__(self, path: Path | None, folder: Path, dropped: Path) -> None:
        """path: the SQLite file, None to keep it in memory. folder: the segments. dropped: the files of `drops`."""
        self.path = path
        self._folder, self._dropped = folder, dropped
        self._memory = self._opened()

    def refresh(self) -> None:
        """Take in what the segments gained; those that are gone or shrank are forgotten first.

        Lines that are not what was written are passed by; behind the last whole one reading goes on next time.
        """
        paths = segments(self._folder)
        with self._writing() as memory:
            known = {
                name: (number, stop) for number, name, stop in memory.execute("SELECT id, name, stop FROM segments")
            }
            sizes = {path.name: path.stat().st_size for path in paths}
            for name, (number, stop) in list(known.items()):
                if sizes.get(name, -1) < stop:
                    self._forget(memory, number)
                    del known[name]
            for path in paths:
                if sizes[path.name] > (known[path.name][1] if path.name in known else 0):
                    self._read(memory, path, known.get(path.name))
            self._read_drops(memory)

    def forget(self, name: str) -> None:
        """Read a segment anew at the next refresh: it does not hold what the index says."""
        with self._writing() as memory:
            for (number,) in memory.execute("SELECT id FROM segments WHERE name = ?", (name,)).fetchall():
                self._forget(memory, number)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, list[Entry]]:
        """Find all answers to the given keys, in the order of use; keys without answers are left out."""
        try:
            return self._found(keys)
        except sqlite3.OperationalError as error:
            raise self._refused(error) from error
        except sqlite3.DatabaseError:
            self._memory.close()
            if self.path is not None:
                _remove(self.path)
            self._memory = self._opened()
            self.refresh()
            return self._found(keys)

    def _found(self, keys: Sequence[bytes]) -> dict[bytes, list[Entry]]:
        found: dict[bytes, list[Entry]] = {}
        for start in range(0, len(keys), _ASK_FOR):
            asked = keys[start : start + _ASK_FOR]
            rows = self._memory.execute(
                "SELECT key, imported, time, line, name, offset, bytes, cut, rejected, empty, "
                "input_tokens, output_tokens, max_tokens FROM answers JOIN segments ON segment = id "
                f"WHERE key IN ({','.join('?' * len(asked))}) AND {_NOT_DROPPED}",
                asked,
            )
            for key, imported, time, *values in rows:
                found.setdefault(key, []).append(Entry(imported, math.inf if time is None else time, *values))
        for entries in found.values():
            entries.sort()
        return found

    def dropped(self, keys: Sequence[bytes]) -> set[bytes]:
        """Return the keys with a dropped answer."""
        found: set[bytes] = set()
        for start in range(0, len(keys), _ASK_FOR):
            asked = keys[start : start + _ASK_FOR]
            marks = ",".join("?" * len(asked))
            rows = self._memory.execute(f"SELECT DISTINCT key FROM drops WHERE key IN ({marks})", asked)
            found |= {key for (key,) in rows}
        return found

    def has_drops(self) -> bool:
        """Tell whether any answer was ever dropped."""
        return bool(self._memory.execute("SELECT EXISTS (SELECT 1 FROM drops)").fetchone()[0])

    def claim(self, keys: Sequence[bytes], owner: str) -> set[bytes]:
        """Claim the keys that nobody else claims, and return them: from now on the owner asks them."""
        with self._writing() as memory:
            memory.executemany("INSERT OR IGNORE INTO claims VALUES (?, ?)", [(key, owner) for key in keys])
            mine = set()
            for start in range(0, len(keys), _ASK_FOR):
                asked = keys[start : start + _ASK_FOR]
                marks = ",".join("?" * len(asked))
                rows = memory.execute(f"SELECT key FROM claims WHERE owner = ? AND key IN ({marks})", [owner, *asked])
                mine |= {key for (key,) in rows}
            return mine

    def owners(self) -> set[str]:
        """Return everyone who claims something."""
        return {owner for (owner,) in self._memory.execute("SELECT DISTINCT owner FROM claims")}

    def release(self, owner: str) -> None:
        """Drop all claims of an owner."""
        with self._writing() as memory:
            memory.execute("DELETE FROM claims WHERE owner = ?", (owner,))

    def counts(self) -> tuple[int, int, int]:
        """Count segments, answers, and damaged lines."""
        (number, damaged), (answers,) = (
            self._memory.execute(sql).fetchone()
            for sql in ("SELECT count(*), total(damaged) FROM segments", "SELECT count(*) FROM answers")
        )
        return number, answers, int(damaged)

    def close(self) -> None:
        self._memory.close()

    def _opened(self) -> sqlite3.Connection:
        """Open the index; a damaged one is made anew, and one that cannot be written is kept in memory."""
        if self.path is not None:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    return _connected(self.path)
                # A full or locked disk is no damage: the file stays.
                except sqlite3.OperationalError:
                    raise
                except sqlite3.DatabaseError:
                    _remove(self.path)
                    return _connected(self.path)
            except (OSError, sqlite3.OperationalError):
                self.path = None
        return _connected(None)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Hold one write transaction; other processes wait."""
        try:
            # Takes the write lock at once: raising a read lock later fails where another writes.
            self._memory.execute("BEGIN IMMEDIATE")
            with self._memory:
                yield self._memory
        except sqlite3.DatabaseError as error:
            raise self._refused(error) from error

    def _refused(self, error: sqlite3.Error) -> TraceError:
        return TraceError(
            f"the index of the traces at {self.path or 'memory'} cannot be used ({error}); make room or remove it, "
            "it is made anew from the traces: run the same command again"
        )

    def _read(self, memory: sqlite3.Connection, path: Path, known: tuple[int, int] | None) -> None:
        if known is None:
            cursor = memory.execute("INSERT INTO segments (name, stop, damaged) VALUES (?, 0, 0)", (path.name,))
            known = (int(cursor.lastrowid or 0), 0)
        number, stop = known
        rows: list[tuple[object, ...]] = []
        damaged = passed = 0
        for line in lines_from(path, stop):
            trace = decode(line.data)
            if trace is None:
                passed += 1
                continue
            stop, damaged, passed = line.stop, damaged + passed, 0
            rows.append(_entry(trace.answer, line, number, is_imported=path.name.endswith(IMPORTED)))
            if len(rows) >= _STORE_EVERY:
                _insert(memory, rows)
                rows = []
        _insert(memory, rows)
        memory.execute("UPDATE segments SET stop = ?, damaged = damaged + ? WHERE id = ?", (stop, damaged, number))

    def _read_drops(self, memory: sqlite3.Connection) -> None:
        """Take in what was dropped since; where a file of drops is gone or shrank, all are read again."""
        sizes = {path.name: path.stat().st_size for path in drop_files(self._dropped)}
        known = dict(memory.execute("SELECT name, stop FROM drop_files"))
        if any(sizes.get(name, -1) < stop for name, stop in known.items()):
            memory.execute("DELETE FROM drops")
            memory.execute("DELETE FROM drop_files")
            known = {}
        for name, size in sizes.items():
            stop = known.get(name, 0)
            if size <= stop:
                continue
            for place, ends in read_drops(self._dropped / name, stop):
                row = (place.segment, place.offset, place.line, place.key)
                memory.execute("INSERT OR IGNORE INTO drops VALUES (?, ?, ?, ?)", row)
                stop = ends
            memory.execute("INSERT OR REPLACE INTO drop_files VALUES (?, ?)", (name, stop))

    @staticmethod
    def _forget(memory: sqlite3.Connection, number: int) -> None:
        memory.execute("DELETE FROM answers WHERE segment = ?", (number,))
        memory.execute("DELETE FROM segments WHERE id = ?", (number,))


def _connected(path: Path | None) -> sqlite3.Connection:
    memory = sqlite3.connect(path or ":memory:", timeout=_PATIENCE_SECONDS, isolation_level=None)
    memory.execute("PRAGMA journal_mode = WAL")
    memory.execute("PRAGMA synchronous = OFF")  # it is made anew from the segments
    if memory.execute("PRAGMA user_version").fetchone()[0] not in (0, _VERSION):
        for table in _OLD_TABLES:
            memory.execute(f"DROP TABLE IF EXISTS {table}")
    memory.executescript(_SCHEMA)
    return memory


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).unlink()


def _entry(answer: Answer, line: Line, segment: int, *, is_imported: bool) -> tuple[object, ...]:
    digest = bytes.fromhex(line.data.partition(b" ")[0].decode())
    time = answer.time if is_time(answer.time) else None
    place = (segment, line.offset, len(line.data))
    states = (answer.finish_reason == CUT, answer.reason is not None, answer.is_empty)
    tokens = (answer.input_tokens, answer.output_tokens, answer.max_tokens)
    return (answer.key, is_imported, time, digest, *place, *states, *tokens)


def _insert(memory: sqlite3.Connection, rows: Sequence[tuple[object, ...]]) -> None:
    memory.executemany(f"INSERT INTO answers VALUES ({','.join('?' * _COLUMNS)})", rows)
