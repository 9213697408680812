"""A teacher's answers to an example, with time, endpoint and length, read from the traces.

A build says which stages asked and answered it, the store what each example asked, and the trace store the rest: what
either no longer holds is said, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orca_recipes.contract.answers import Answer
from orca_recipes.explain.store_memory import halves
from orca_recipes.explain.story import Exchange
from orca_recipes.plan.stages import Stage
from orca_recipes.run.answers.requests import asked_parts
from orca_recipes.shards.manifest import StageIdentity
from orca_recipes.store.arrow_files import read_frame
from orca_recipes.store.shared_store import is_store, store_at, store_name
from orca_recipes.store.stage_folder import StageFolder
from orca_recipes.traces.shared_traces import traces_name
from orca_recipes.traces.trace_store import TraceStore, default_root


@dataclass(frozen=True)
class AnswerMemory:
    """The traces behind a build's examples. stages: of the build, by name."""

    store: Path
    traces: Path
    stages: dict[str, str]

    @classmethod
    def of(cls, store: Path, traces: Path | None, plan: Iterable[StageIdentity]) -> AnswerMemory:
        """traces: this user's, where None."""
        stages = {stage.name: stage.fingerprint for stage in plan if stage.verb in ("ask", "answer")}
        return cls(store, traces or default_root(), stages)

    def exchanges(self, subject: str, example: str) -> tuple[Exchange, ...]:
        """List the exchanges about an example of "dataset/collection", sample by sample; empty where nothing was
        asked."""
        if f"ask {subject}" not in self.stages:
            return ()
        asked, answers = self._folder("ask", subject), self._folder("answer", subject)
        if asked is None or answers is None:
            return (Exchange(unknown=f"the store at {store_name(self.store)} no longer holds what was asked"),)
        rows = list(_rows(asked, answers, example))
        if rows and not self.traces.is_dir():
            unknown = f"there are no traces at {traces_name(self.traces)}; say where they are with --traces"
            return (Exchange(unknown=unknown),)
        return tuple(self._exchange(row) for row in rows)

    def _folder(self, verb: str, subject: str) -> StageFolder | None:
        if not is_store(self.store):
            return None
        folder = store_at(self.store).folder(
            Stage(verb, subject, "", {}, (), self.stages[f"{verb} {subject}"]),
        )
        return folder if folder.finished else None

    def _exchange(self, row: dict[str, Any]) -> Exchange:
        """Find the trace with the answer that the build used: a request may have several."""
        with TraceStore(self.traces) as traces:
            traces.refresh()
            for entry in traces.index.find([row["key"]]).get(row["key"], []):
                answer = traces.read({row["key"]: entry}).get(row["key"])
                if answer is not None and _is_of(answer, row):
                    return _told(answer, row["sample"])
        return Exchange(row["sample"], unknown=f"the traces at {traces_name(self.traces)} do not hold it")


def _rows(asked: StageFolder, answers: StageFolder, example: str) -> Iterator[dict[str, Any]]:
    """Yield sample, key, answer and finish_reason of an example's requests."""
    import polars as pl

    hi, lo = halves(example)
    for part in asked_parts(asked):
        frame = read_frame(part.file(".arrow"), columns=["id_hi", "id_lo", "sample"])
        mine = (frame["id_hi"] == hi) & (frame["id_lo"] == lo)
        if mine.any():
            told = read_frame(answers.file(f"{part.name}.arrow"), columns=["key", "answer", "finish_reason"])
            found = pl.concat([frame.filter(mine), told.filter(mine)], how="horizontal")
            used = found.filter(pl.col("key").is_not_null()).unique(["sample", "key"], maintain_order=True)
            yield from used.iter_rows(named=True)


def _is_of(answer: Answer, row: dict[str, Any]) -> bool:
    return answer.finish_reason == row["finish_reason"] and row["answer"] in (answer.text, None)


def _told(answer: Answer, sample: int) -> Exchange:
    return Exchange(
        sample=sample,
        model_asked=answer.model_asked,
        model_reported=answer.model_reported,
        endpoint=answer.endpoint,
        time=datetime.fromtimestamp(answer.time, UTC).isoformat(sep=" ", timespec="seconds"),
        input_tokens=answer.input_tokens,
        output_tokens=answer.output_tokens,
        max_tokens=answer.max_tokens,
        finish_reason=answer.finish_reason,
        request_id=answer.request_id,
    )
