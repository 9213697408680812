"""The trace store: answers by request, bought once, shared by all recipes and by builds that run at once.

The segments are the truth and are only ever appended to. Which of several answers to one request is used follows from
what the segments hold, never from who asks: what was bought before what was imported, then the earliest, and of equal
times the one whose line has the lower digest. What was dropped is none (`drops`); a time that cannot be is the last.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import platformdirs

from orca_recipes.contract.answers import Answer, Lengths, is_within
from orca_recipes.store.claims import Say
from orca_recipes.traces import drops, sent_requests
from orca_recipes.traces.drops import Place, drop_files, drop_lines, read_drops, write_drops
from orca_recipes.traces.sent_requests import InFlight, SentRequests
from orca_recipes.traces.shared_sent import SharedSent
from orca_recipes.traces.shared_traces import (
    DROPPED,
    PAUSE_SECONDS,
    SEGMENTS,
    SENT,
    SharedWriter,
    shared_traces,
    traces_name,
)
from orca_recipes.traces.trace_index import Entry, Index
from orca_recipes.traces.trace_lines import DIGEST_DIGITS, Trace, decode, encode
from orca_recipes.traces.trace_segments import IMPORTED, SegmentWriter, lines_from, new_segment_name, segments

PROGRAM = "orca-recipes"
LAYOUT = 2
"""Of the local index; another has another file, so that an older orca-recipe beside this one keeps its own."""


def default_root() -> Path:
    """Return the default folder of answers: this user's data directory."""
    return platformdirs.user_data_path(PROGRAM, appauthor=False) / "traces"


@dataclass(frozen=True)
class Standing:
    """State of a request: the answer in use, or else the limit of tokens to ask under.

    empty: the empty reply that stands where nothing better is had; it settles nothing, so that the request is asked
    again.
    """

    entry: Entry | None
    max_tokens: int | None = None
    empty: Entry | None = None

    @property
    def last(self) -> Entry | None:
        """Return the answer to use once nothing more is asked."""
        return self.entry or self.empty


class TraceStore:
    """The traces at a folder, which need not be there yet."""

    def __init__(self, root: Path, *, index: Path | None = None) -> None:
        """index: where its local index lies; the user's cache directory, where it is not said."""
        self.root = root
        self.folder = root / "segments"
        self.dropped = root / "dropped"
        self._index = Index(index or _index_path(root), self.folder, self.dropped)
        self._shared = shared_traces(root)
        self._writer: SegmentWriter | SharedWriter = (
            SegmentWriter(self.folder) if self._shared is None else SharedWriter(self._shared)
        )
        # Apart, since what was bought comes before what was imported, and a segment says which it is by its name.
        self._importer = SegmentWriter(self.folder, IMPORTED)

    @property
    def name(self) -> str:
        """Return the user's name for the traces: their folder, or their address."""
        return traces_name(self.root)

    @property
    def pause_seconds(self) -> float:
        """Return the time from one writing of answers to the next."""
        return 0.0 if self._shared is None else PAUSE_SECONDS

    @property
    def notes(self) -> Path | None:
        """Return the folder of what teachers must know from run to run; None where no folder is kept."""
        return self.root / "notes" if self._shared is None else None

    def refresh(self, *, anew: bool = True) -> None:
        """See what has been kept by now, by whomever. anew: ask the address too, where the traces are at one."""
        if anew and self._shared is not None:
            self._shared.pull()
        self._index.refresh()

    @contextmanager
    def asking(self, sampling: Mapping[str, Any], say: Say) -> Iterator[None]:
        """Be the one host that asks a model with these options, where hosts share the traces; on one machine builds
        share each request (`question_claims`). Raises: BucketError, ObjectsError."""
        if self._shared is None:
            yield
            return
        with self._shared.asking(sampling, say):
            self._index.refresh()
            yield

    def may_ask(self) -> None:
        """Raise TraceError where another host may have taken over what is asked."""
        if self._shared is not None:
            self._shared.refuse_lapsed()

    def has_in_flight(self) -> bool:
        """Tell whether anything is written down as in flight, by whomever."""
        if self._shared is None:
            return bool(segments(self.root / SENT, sent_requests.SUFFIX))
        return bool(self._shared.objects.listed(SENT))

    def in_flight(self) -> InFlight:
        """Return what is in flight, as a context."""
        if self._shared is None:
            return SentRequests(self.root / SENT)
        return SharedSent(self._shared.objects, self._shared.leases)

    def standings(self, keys: Sequence[bytes], lengths: Lengths) -> dict[bytes, Standing]:
        """Return the state of each request, as of the last refresh."""
        found = self._index.find(keys)
        return {key: _standing(found.get(key, []), lengths) for key in keys}

    def read(self, entries: Mapping[bytes, Entry]) -> dict[bytes, Answer]:
        """Read the answers of index entries, each compared with its digest and its key.

        A segment that does not hold what the index says is read anew, and its answers are left out: look again.
        """
        answers: dict[bytes, Answer] = {}
        by_segment: dict[str, list[tuple[int, bytes]]] = {}
        for key, entry in entries.items():
            by_segment.setdefault(entry.segment, []).append((entry.offset, key))
        for name, places in sorted(by_segment.items()):
            whole = dict(_lines(self.folder / name, sorted(places), entries))
            # The index is a cache of the segments: one that points at other bytes is forgotten, never believed.
            if len(whole) < len(places):
                self._index.forget(name)
            answers |= whole
        return answers

    def append(self, traces: Sequence[Trace]) -> None:
        """Bring traces to the disk, one after the other, in one go. Raises: OSError."""
        self._writer.append(b"".join(map(encode, traces)))

    def take_in(self, traces: Sequence[Trace]) -> None:
        """Append traces bought elsewhere, as `append` does; they rank behind those bought here."""
        lines = b"".join(map(encode, traces))
        if self._shared is None:
            self._importer.append(lines)
        else:
            self._shared.publish(SEGMENTS, new_segment_name(IMPORTED), lines)

    def traces(self) -> Iterator[Trace]:
        """Yield every kept trace, segment by segment."""
        return (trace for _, trace in self.placed())

    def placed(self) -> Iterator[tuple[Place, Trace]]:
        """Yield every kept trace with its place."""
        if self._shared is not None:
            self._shared.pull()
        dropped = {place for path in drop_files(self.dropped) for place, _ in read_drops(path)}
        for path in segments(self.folder):
            for line in lines_from(path, 0):
                trace = decode(line.data)
                if trace is None:
                    continue
                digest = bytes.fromhex(line.data[:DIGEST_DIGITS].decode())
                place = Place(path.name, line.offset, digest, trace.answer.key)
                if place not in dropped:
                    yield place, trace

    def drop(self, places: Sequence[Place]) -> None:
        """Let answers count for nothing from now on. Raises: OSError."""
        if places and self._shared is None:
            write_drops(self.dropped, places)
        elif places and self._shared is not None:
            self._shared.publish(DROPPED, new_segment_name(drops.SUFFIX), drop_lines(places))
        self.refresh()

    def counts(self) -> tuple[int, int, int]:
        """Count segments, answers, and damaged lines, as of the last refresh."""
        return self._index.counts()

    @property
    def index(self) -> Index:
        """Return the local index: claims of builds that run at once lie in it too."""
        return self._index

    def close(self) -> None:
        self._writer.close()
        self._importer.close()
        self._index.close()
        if self._shared is not None:
            self._shared.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *fault: object) -> None:
        self.close()


class DurableAnswers:
    """Keeps answers for many tasks at once: what comes while the disk works on one batch is the next batch."""

    def __init__(self, store: TraceStore) -> None:
        self._store = store
        self._waiting: list[tuple[Trace, asyncio.Future[None]]] = []
        self._worker: asyncio.Task[None] | None = None
        self._begins = 0.0

    async def keep(self, trace: Trace) -> None:
        """Return when the answer is on the disk. Raises: OSError."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((trace, done))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.ensure_future(self._work())
        await done

    async def drain(self) -> None:
        """Return when all that was handed over is on the disk, or was refused."""
        if self._worker is not None:
            # Who waits may be cancelled; the answers on their way to the disk are paid for.
            await asyncio.shield(self._worker)

    async def _work(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._begins - time.monotonic())
            self._begins = time.monotonic() + self._store.pause_seconds
            # All that came while the disk was busy goes in one write: one flush for hundreds of answers.
            batch, self._waiting = self._waiting, []
            fault: Exception | None = None
            try:
                await asyncio.to_thread(self._store.append, [trace for trace, _ in batch])
            except Exception as error:  # whoever waits hears of it, whatever it is, or would wait for ever
                fault = error
            for _, done in batch:
                if not done.done():
                    done.set_result(None) if fault is None else done.set_exception(fault)


def any_dropped(root: Path) -> bool:
    """Tell whether any answer was ever dropped from the traces at a folder. Raises: BucketError, ObjectsError."""
    shared = shared_traces(root)
    if shared is not None:
        shared.pull()
    return any(drop_files(root / "dropped"))


def _standing(entries: Sequence[Entry], lengths: Lengths) -> Standing:
    """Choose among a request's answers, in order: the first finished and short enough, else what a limit gave."""
    last = lengths.limits[-1]
    for entry in entries:
        tokens = {"output_tokens": entry.output_tokens, "made_under": entry.max_tokens}
        if not (entry.is_cut or entry.is_rejection or entry.is_empty) and is_within(last, **tokens):
            return Standing(entry)
    for limit in lengths.limits:
        mine = [entry for entry in entries if entry.max_tokens == limit]
        own = [entry for entry in mine if (entry.is_cut or entry.is_rejection) and not entry.is_empty]
        if not own:
            return Standing(None, limit, next((entry for entry in mine if entry.is_empty), None))
        if own[0].is_rejection or limit == last:
            return Standing(own[0])
    raise AssertionError("a teacher has a limit of tokens, if only null for none")


def _lines(
    path: Path, places: Sequence[tuple[int, bytes]], entries: Mapping[bytes, Entry]
) -> Iterator[tuple[bytes, Answer]]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for offset, key in places:
            file.seek(offset)
            trace = decode(file.read(entries[key].bytes))
            if trace is not None and trace.answer.key == key:
                yield key, trace.answer.as_kept()


def _index_path(root: Path) -> Path:
    """Return the path of a trace store's index on this machine; each store has one."""
    # In the cache and not beside the segments: those may lie on a network, where SQLite's locks cannot be trusted.
    name = hashlib.blake2b(str(root.resolve()).encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    return platformdirs.user_cache_path(PROGRAM, appauthor=False) / f"traces-{name}-{LAYOUT}.sqlite"
