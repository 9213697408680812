"""One example's requests, exactly as they go out, and their answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orca_recipes.contract.answers import Answer, Request
from orca_recipes.contract.draws import id_text
from orca_recipes.contract.frames import BESIDE_ANSWER
from orca_recipes.errors import BuildError
from orca_recipes.plan.used_parts import collects, taken_collections
from orca_recipes.run.answers.collecting import questions_of
from orca_recipes.run.answers.panel import panel_for
from orca_recipes.run.answers.requests import asked_parts, beside, told, whole
from orca_recipes.run.answers.session import Session, writing_traces
from orca_recipes.run.conversations.course import course_of
from orca_recipes.run.execute import execute
from orca_recipes.run.work.bench import Bench
from orca_recipes.store.arrow_files import read_frame
from orca_recipes.traces.trace_store import TraceStore, default_root


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
        """Return the body sent and the stored answer; answer: None if none is stored."""
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
                **beside_text(self.stored),
                "finish_reason": self.stored.finish_reason,
                "reason": self.stored.reason,
            },
        }


def beside_text(answer: Answer) -> dict[str, str]:
    """Return the fields beside an answer's text, by name."""
    found = {name: getattr(answer, name) for name in BESIDE_ANSWER}
    return {name: text for name, text in found.items() if text is not None}


def requests_for(bench: Bench, wanted: str) -> list[OneRequest]:
    """Find the requests of the example whose id is, or begins with, `wanted`, in every dataset asking it.

    Raises: BuildError where no example is asked that has such an id, or several are.
    """
    execute(bench, ("ask",))
    with TraceStore(bench.traces or default_root()) as traces:
        traces.refresh()
        found = [
            one
            for dataset in bench.recipe.datasets
            if collects(bench.recipe, dataset)
            for collection in taken_collections(bench.recipe, dataset)
            for one in _found(bench, dataset, collection, wanted.lower(), traces)
        ]
    examples = sorted({one.example for one in found})
    if not found:
        raise BuildError(f"no example is asked whose id begins with {wanted}; `orca-recipe show` prints ids, in full")
    if len(examples) > 1:
        raise BuildError(
            f"the ids of {len(examples)} examples begin with {wanted}, among them {', '.join(examples[:3])}"
        )
    return found


def _found(bench: Bench, dataset: str, collection: str, wanted: str, traces: TraceStore) -> Iterator[OneRequest]:
    import polars as pl

    name = bench.recipe.datasets[dataset].teacher
    teacher, course = bench.recipe.teachers[name], course_of(bench, dataset, collection)
    columns = ["id_hi", "id_lo", "rule", "message_id", "request", "sample", "key", "tools"]
    for part in asked_parts(bench.folder(f"ask {dataset}/{collection}")):
        frame = whole(read_frame(part.file(".arrow"))).select(columns).filter(pl.col("key").is_not_null())
        texts = [id_text(hi, lo) for hi, lo in frame.select("id_hi", "id_lo").iter_rows()]
        matching = frame.with_columns(example=pl.Series(texts, dtype=pl.String))
        matching = matching.filter(pl.col("example").str.starts_with(wanted))
        standings = traces.standings(matching["key"].to_list(), teacher.lengths())
        entries = {key: stand.entry for key, stand in standings.items() if stand.entry is not None}
        answers = traces.read(entries)
        for row in matching.iter_rows(named=True):
            key = row["key"]
            limit = teacher.lengths().limits[0] if key in entries else standings[key].max_tokens
            messages = row["request"]
            request = Request(key, told(messages), row["sample"], limit, beside(messages), row["tools"])
            strategy = course.rules[row["rule"]].strategy_name
            body = teacher.as_sent(request=request)
            names = (dataset, collection, row["example"], name, strategy, row["message_id"])
            yield OneRequest(*names, request, body, answers.get(key))


def sent(bench: Bench, found: Sequence[OneRequest]) -> list[OneRequest]:
    """Send the requests without a stored answer, keep the answers, and return all requests with theirs."""
    lacking = [one for one in found if one.stored is None]
    with TraceStore(bench.traces or default_root()) as traces, writing_traces(traces), traces.in_flight() as in_flight:
        for one in lacking:
            teacher = bench.recipe.teachers[one.teacher]
            questions = [each for each in questions_of(bench, one.teacher) if each.subject == one.subject]
            with (
                traces.asking(teacher.sampling(), bench.progress.say),
                panel_for(bench.progress, one.teacher, 1, money=teacher.money(), spent_usd=0.0) as panel,
            ):
                only = frozenset({one.request.key})
                Session(one.teacher, teacher, questions, traces, in_flight, panel, only=only).run()
        traces.refresh()
        answers: dict[bytes, Answer] = {}
        for one in found:
            entry = traces.standings([one.request.key], bench.recipe.teachers[one.teacher].lengths())
            answers |= traces.read({key: stand.last for key, stand in entry.items() if stand.last is not None})
    return [replace(one, stored=answers.get(one.request.key)) for one in found]
