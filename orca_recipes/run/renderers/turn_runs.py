"""Examples in spans become runs of text and control tokens, as a table of joints gives them for plain conversations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from orca_recipes.run.renderers.turn_examples import Span
from orca_recipes.run.segments.items import Items
from orca_recipes.run.segments.template_pieces import CONTROL, TEXT
from orca_recipes.run.segments.text_runs import Runs

_GROUPS = ((True, False), (True, True), (False, True), (False, False))
"""Whether texts open and whether they are trained, in the order of `Runs.texts`."""


@dataclass
class Laid:
    """Examples laid out one after the other, as lists.

    only_at_start: only a run at the very start of an example opens. places: of control tokens among the encoder's.
    """

    control: re.Pattern[str]
    places: Mapping[str, int]
    only_at_start: bool
    examples: int = 0
    items: list[tuple[int, int, int, bool, int]] = field(default_factory=list)
    runs: list[tuple[str, bool, bool, int, int]] = field(default_factory=list)

    def add(self, spans: Sequence[Span]) -> None:
        """Lay out the spans of the next example."""
        opens = True
        run: list[Span] = []
        for span in spans:
            if run and run[-1].trained != span.trained:
                self._run(run, opens)
                opens, run = False, []
            at = 0
            for match in self.control.finditer(span.text):
                if match.start() > at:
                    run.append(Span(span.text[at : match.start()], span.role, span.trained))
                if run:
                    self._run(run, opens)
                    run = []
                self.items.append((CONTROL, self.places[match.group()], span.role, span.trained, self.examples))
                at, opens = match.end(), not self.only_at_start
            if at < len(span.text):
                run.append(Span(span.text[at:], span.role, span.trained))
        if run:
            self._run(run, opens)
        self.examples += 1

    def arranged(self) -> tuple[Items, Runs]:
        """Return all examples as columns of items and runs; a text shared by untrained runs is stored once."""
        import pyarrow as pa

        what, payload, role, trained, example = (np.array(column) for column in zip(*self.items, strict=True))
        items = Items(
            what=what.astype(np.int8),
            source=np.zeros(len(what), dtype=np.int32),
            payload=payload.astype(np.int32),
            role=role.astype(np.int8),
            trained=trained.astype(bool),
            example=example.astype(np.int32),
        )
        texts: list[str] = []
        place, sizes = [0] * len(self.runs), []
        for wanted in _GROUPS:
            known: dict[str, int] = {}
            for at, (text, opens, is_trained, _, _) in enumerate(self.runs):
                if (opens, is_trained) == wanted:
                    if is_trained or text not in known:
                        known[text] = len(texts)
                        texts.append(text)
                    place[at] = known[text]
            sizes.append(len(texts))
        first = np.array([run[3] for run in self.runs], dtype=np.int64)
        return items, Runs(
            first_item=first,
            example=items.example[first],
            role=np.array([run[4] for run in self.runs], dtype=np.int8),
            texts=pa.array(texts, type=pa.large_string()),
            text=np.array(place, dtype=np.int64),
            opening=sizes[1],
            trained=(sizes[0], sizes[2]),
        )

    def _run(self, spans: Sequence[Span], opens: bool) -> None:
        roles = {span.role for span in spans}
        role, trained = roles.pop() if len(roles) == 1 else 0, spans[0].trained
        self.runs.append(("".join(span.text for span in spans), opens, trained, len(self.items), role))
        self.items.append((TEXT, 0, role, trained, self.examples))
