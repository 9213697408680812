"""Decide whether a question needs further answers: the next sample only if all filters rejected those before it.

What is needed follows from the answers and the filters alone, never from what the traces happen to hold, so that a
build is the same whoever bought how many answers before.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from orca_recipes.contract.answers import Lengths
from orca_recipes.run.answers.converse_answered import IDENTITY
from orca_recipes.run.answers.requests import asked_parts, whole
from orca_recipes.run.answers.stored_answers import Chosen, answers_frame, answers_of
from orca_recipes.run.conversations.converse import teach
from orca_recipes.run.conversations.course import Course
from orca_recipes.run.conversations.judging import passing
from orca_recipes.store.arrow_files import read_frame
from orca_recipes.store.stage_folder import Part, StageFolder
from orca_recipes.traces.trace_store import TraceStore


@dataclass
class Rounds:
    """The samples of one `ask` stage, one after the other.

    chosen: the requests that are needed so far. Parts hold their samples one behind the other, the questions of each in
    the same order.
    """

    asked: StageFolder
    samples: int
    course: Course
    chosen: dict[str, np.ndarray] = field(default_factory=dict)
    _sample: int = 0
    _open: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part in asked_parts(self.asked):
            rows = int(part.report["out"])
            self.chosen[part.name] = np.zeros(rows, dtype=np.bool_)
            self._open[part.name] = np.ones(rows // self.samples, dtype=np.bool_)
            self._choose(part)

    @property
    def is_last(self) -> bool:
        return self._sample + 1 == self.samples

    def of_round(self) -> Chosen:
        """Return the requests of this round alone."""
        return {part.name: self._mask(part) for part in asked_parts(self.asked)}

    def go_on(self, traces: TraceStore, lengths: Lengths) -> None:
        """Judge this round's answers, which are all kept, and choose the requests of the next.

        Raises: KeyError where some answer is not kept.
        """
        for part in asked_parts(self.asked):
            open_ = self._open[part.name]
            if open_.any():
                open_[np.flatnonzero(open_)] = self._are_open(part, traces, lengths)
        self._sample += 1
        for part in asked_parts(self.asked):
            self._choose(part)

    def _choose(self, part: Part) -> None:
        self.chosen[part.name] |= self._mask(part)

    def _mask(self, part: Part) -> np.ndarray:
        open_ = self._open[part.name]
        mask = np.zeros(len(open_) * self.samples, dtype=np.bool_)
        mask[self._sample * len(open_) : (self._sample + 1) * len(open_)] = open_
        return mask

    def _are_open(self, part: Part, traces: TraceStore, lengths: Lengths) -> np.ndarray:
        """Return bool [open questions]: those whose answer was refused; a row that brings its own answer has no
        other."""
        import polars as pl

        asked = whole(read_frame(part.file(".arrow"))).filter(pl.Series(self._mask(part)))
        keys = asked["key"].drop_nulls().unique(maintain_order=True).to_list()
        answers = answers_frame(asked["key"], answers_of(keys, traces, lengths), lengths)
        made, *_ = passing(teach(asked, answers, self.course)[0], self.course)
        judged = asked.select(
            "id_hi", "id_lo", "rule", system_message="message_id", is_asked=pl.col("key").is_not_null()
        )
        names = pl.Series([rule.strategy_name for rule in self.course.rules], dtype=pl.String)
        kept = made.select(IDENTITY).unique().with_columns(is_kept=pl.lit(True))
        judged = judged.with_columns(strategy=names.gather(judged["rule"]))
        judged = judged.join(kept, on=IDENTITY, how="left", maintain_order="left")
        return judged.select(open=pl.col("is_asked") & pl.col("is_kept").is_null())["open"].to_numpy()
