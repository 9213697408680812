"""One example's requests, exactly as they go out, and their answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orca_recipes.contract.answers import Answer, Request
from orca_recipes.contract.draws import id_text
from orca_recipes.errors import BuildError
from orca_recipes.plan.compile import collects, taken_collections
from orca_recipes.run.arrow import read_frame
from orca_recipes.run.ask import asked_parts, told
from orca_recipes.run.collect import Session
from orca_recipes.run.execute import Execution
from orca_recipes.run.panel import panel_for
from orca_recipes.traces.store import TraceStore, default_root


@dataclass(frozen=True)
class OneRequest:
    """A request of an example; body is what goes out. stored: the answer that is kept already."""

    dataset: str
    collection: str
    example: str
    teacher: str
    strategy: str
    system_message: str
    request: Request
    body: Mapping[str, Any]
    stored: Answer | None

    @property
    def subject(self) -> str:
        return f"{self.dataset}/{self.collection}"

    @property
    def title(self) -> str:
        message = f", system message {self.system_message}" if self.system_message else ""
        state = "stored" if self.stored else "not stored"
        asked = f"teacher {self.teacher}, strategy {self.strategy}{message}, sample {self.request.sample}"
        return f"{self.subject}: example {self.example}; {asked}; {state}"

    def as_json(self) -> dict[str, Any]:
        """What goes out and what came back; answer: None where none is stored."""
        return {
            "dataset": self.dataset,
            "collection": self.collection,
            "example": self.example,
            "teacher": self.teacher,
            "strategy": self.strategy,
            "system_message": self.system_message,
            "sample": self.request.sample,
            "body": self.body,
            "answer": None
            if self.stored is None
            else {
                "text": self.stored.text,
                "finish_reason": self.stored.finish_reason,
                "reason": self.stored.reason,
            },
        }


def requests_for(execution: Execution, wanted: str) -> list[OneRequest]:
    """The requests of the example whose id is, or begins with, `wanted`, in every dataset that asks it.

    Raises: BuildError where no example is asked that has such an id, or several are.
    """
    execution.run(("ask",))
    with TraceStore(execution.traces or default_root()) as traces:
        traces.refresh()
        found = [
            one
            for dataset in execution.recipe.datasets
            if collects(execution.recipe, dataset)
            for collection in taken_collections(execution.recipe, dataset)
            for one in _found(execution, dataset, collection, wanted.lower(), traces)
        ]
    examples = sorted({one.example for one in found})
    if not found:
        raise BuildError(f"no example is asked whose id begins with {wanted}; `orca-recipe show` prints ids, in full")
    if len(examples) > 1:
        raise BuildError(
            f"the ids of {len(examples)} examples begin with {wanted}, among them {', '.join(examples[:3])}"
        )
    return found


def _found(
    execution: Execution, dataset: str, collection: str, wanted: str, traces: TraceStore
) -> Iterator[OneRequest]:
    import polars as pl

    name = execution.recipe.datasets[dataset].teacher
    teacher, course = execution.recipe.teachers[name], execution.making.course(dataset, collection)
    columns = ["id_hi", "id_lo", "rule", "message_id", "request", "sample", "key"]
    for part in asked_parts(execution.folder(f"ask {dataset}/{collection}")):
        frame = read_frame(part.file(".arrow"), columns=columns).filter(pl.col("key").is_not_null())
        texts = [id_text(hi, lo) for hi, lo in frame.select("id_hi", "id_lo").iter_rows()]
        matching = frame.with_columns(example=pl.Series(texts, dtype=pl.String))
        matching = matching.filter(pl.col("example").str.starts_with(wanted))
        standings = traces.standings(matching["key"].to_list(), teacher.lengths())
        entries = {key: stand.entry for key, stand in standings.items() if stand.entry is not None}
        answers = traces.read(entries)
        for row in matching.iter_rows(named=True):
            key = row["key"]
            request = Request(key, told(row["request"]), row["sample"], standings[key].max_tokens)
            if key in entries:
                request = Request(key, request.messages, request.sample, teacher.lengths().limits[0])
            strategy = course.rules[row["rule"]].strategy_name
            body = teacher.as_sent(request=request)
            names = (dataset, collection, row["example"], name, strategy, row["message_id"])
            yield OneRequest(*names, request, body, answers.get(key))


def sent(execution: Execution, found: Sequence[OneRequest]) -> list[OneRequest]:
    """The requests with their answers, those that are not stored sent and kept."""
    lacking = [one for one in found if one.stored is None]
    with TraceStore(execution.traces or default_root()) as traces:
        for one in lacking:
            teacher = execution.recipe.teachers[one.teacher]
            questions = [each for each in execution.answering.questions(one.teacher) if each.subject == one.subject]
            with panel_for(execution.progress, one.teacher, 1, money=teacher.money(), spent_usd=0.0) as panel:
                Session(teacher, questions, traces, panel, only=frozenset({one.request.key})).run()
        traces.refresh()
        answers: dict[bytes, Answer] = {}
        for one in found:
            entry = traces.standings([one.request.key], execution.recipe.teachers[one.teacher].lengths())
            answers |= traces.read({key: stand.last for key, stand in entry.items() if stand.last is not None})
    return [replace(one, stored=answers.get(one.request.key)) for one in found]
