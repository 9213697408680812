"""What a trace store holds, in figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from orca_recipes.counted import counted
from orca_recipes.traces.lines import Trace
from orca_recipes.traces.segments import damaged_lines, segments
from orca_recipes.traces.store import TraceStore


@dataclass
class ModelCounts:
    """One model's traces; reported: other names that its servers gave for themselves."""

    answers: int = 0
    rejections: int = 0
    cut: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    uncounted: int = 0
    reported: Counter[str] = field(default_factory=Counter)

    def add(self, trace: Trace) -> None:
        answer = trace.answer
        self.answers += answer.reason is None
        self.rejections += answer.reason is not None
        self.cut += answer.finish_reason == "length"
        self.input_tokens += answer.input_tokens or 0
        self.output_tokens += answer.output_tokens or 0
        self.uncounted += answer.input_tokens is None or answer.output_tokens is None
        if answer.model_reported not in (None, answer.model_asked):
            self.reported[answer.model_reported] += 1

    def line(self, model: str) -> str:
        told = f"{model}: {counted(self.answers, 'answer')} ({self.cut:,} cut), "
        told += f"{counted(self.rejections, 'rejection')}, "
        told += f"{counted(self.input_tokens, 'token')} in, {self.output_tokens:,} out"
        if self.uncounted:
            told += f" ({self.uncounted:,} came without usage)"
        others = ", ".join(f"{name} x {number:,}" for name, number in self.reported.most_common(3))
        return told + (f"; it called itself {others}" if others else "")


@dataclass(frozen=True)
class StoreCounts:
    """What a store holds, model by model; damaged: lines of its segment files that are cut or damaged."""

    root: Path
    traces: int
    requests: int
    models: Mapping[str, ModelCounts]
    segments: int
    bytes: int
    damaged: int

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "root": str(self.root)}

    def lines(self) -> Iterator[str]:
        yield f"{self.root}: {counted(self.traces, 'trace')} of {counted(self.requests, 'request')}"
        for name, counts in self.models.items():
            yield counts.line(name)
        size = f"{counted(self.segments, 'segment file')}, {self.bytes / 1e6:.1f} MB"
        yield f"{size}; {counted(self.damaged, 'line')} cut or damaged"


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
    return StoreCounts(
        root=traces.root,
        traces=number,
        requests=len(keys),
        models=dict(sorted(models.items())),
        segments=len(files),
        bytes=sum(path.stat().st_size for path in files),
        damaged=sum(map(damaged_lines, files)),
    )
