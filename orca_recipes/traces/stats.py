"""Counts of a trace store, by model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from orca_recipes.counted import counted
from orca_recipes.traces.drops import drop_files, read_drops
from orca_recipes.traces.trace_lines import Trace, decode, oddities
from orca_recipes.traces.trace_segments import damaged_lines, lines_from, segments
from orca_recipes.traces.trace_store import TraceStore


@dataclass
class ModelCounts:
    """One model's traces; reported: other names that its servers gave for themselves."""

    answers: int = 0
    rejections: int = 0
    empty: int = 0
    cut: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    uncounted: int = 0
    reported: Counter[str] = field(default_factory=Counter)

    def add(self, trace: Trace) -> None:
        answer = trace.answer
        self.answers += answer.reason is None and not answer.is_empty
        self.rejections += answer.reason is not None or answer.is_empty
        self.empty += answer.is_empty
        self.cut += answer.finish_reason == "length"
        self.input_tokens += answer.input_tokens or 0
        self.output_tokens += answer.output_tokens or 0
        self.uncounted += answer.input_tokens is None or answer.output_tokens is None
        if answer.model_reported not in (None, answer.model_asked):
            self.reported[answer.model_reported] += 1

    def line(self, model: str) -> str:
        told = f"{model}: {counted(self.answers, 'answer')} ({self.cut:,} cut), "
        empty = f" ({self.empty:,} empty)" if self.empty else ""
        told += f"{counted(self.rejections, 'rejection')}{empty}, "
        told += f"{counted(self.input_tokens, 'token')} in, {self.output_tokens:,} out"
        if self.uncounted:
            told += f" ({self.uncounted:,} came without usage)"
        others = ", ".join(f"{name} x {number:,}" for name, number in self.reported.most_common(3))
        return told + (f"; it called itself {others}" if others else "")


@dataclass(frozen=True)
class StoreCounts:
    """Counts of a store, model by model.

    damaged: lines of its segment files that are cut or damaged. not_believed: traces with a count or time that cannot
    be, which is taken for unknown; the first is told. dropped: traces that count for nothing.
    """

    root: str
    traces: int
    requests: int
    models: Mapping[str, ModelCounts]
    segments: int
    bytes: int
    damaged: int
    not_believed: int = 0
    first_not_believed: str = ""
    dropped: int = 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> Iterator[str]:
        yield f"{self.root}: {counted(self.traces, 'trace')} of {counted(self.requests, 'request')}"
        for name, counts in self.models.items():
            yield counts.line(name)
        size = f"{counted(self.segments, 'segment file')}, {self.bytes / 1e6:.1f} MB"
        yield f"{size}; {counted(self.damaged, 'line')} cut or damaged"
        if self.not_believed:
            told = f"{counted(self.not_believed, 'trace')} with a count or time that cannot be, which is not believed"
            yield f"{told} ({self.first_not_believed})"
        if self.dropped:
            yield f"{counted(self.dropped, 'trace')} dropped, which count for nothing"


def stats(traces: TraceStore) -> StoreCounts:
    """Count what a store holds. Reads every byte."""
    models: dict[str, ModelCounts] = {}
    keys: set[bytes] = set()
    number = 0
    for trace in traces.traces():
        models.setdefault(trace.answer.model_asked, ModelCounts()).add(trace)
        keys.add(trace.answer.key)
        number += 1
    files = segments(traces.folder)
    odd, first = _not_believed(files)
    return StoreCounts(
        root=traces.name,
        traces=number,
        requests=len(keys),
        models=dict(sorted(models.items())),
        segments=len(files),
        bytes=sum(path.stat().st_size for path in files),
        damaged=sum(map(damaged_lines, files)),
        not_believed=odd,
        first_not_believed=first,
        dropped=sum(1 for path in drop_files(traces.dropped) for _ in read_drops(path)),
    )


def _not_believed(files: Sequence[Path]) -> tuple[int, str]:
    """Count the lines with an impossible count or time, and describe the first."""
    number, first = 0, ""
    for path in files:
        for place, line in enumerate(lines_from(path, 0), start=1):
            if decode(line.data) is not None and (odd := oddities(line.data)):
                number += 1
                first = first or f"{path.name}:{place}: {odd[0]}"
    return number, first
