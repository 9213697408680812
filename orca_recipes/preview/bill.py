"""The cost of a recipe's answers before any is bought: answers stored, answers missing, and a range of money.

Nothing is guessed: the length of answers comes from those that are stored for the same strategy, else from max_tokens;
where neither says it, or the recipe states no prices, the bill says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from orca_recipes.contract.answers import Lengths, Money
from orca_recipes.contract.destination import Destination
from orca_recipes.contract.kinds import Teacher
from orca_recipes.plan.used_parts import collects
from orca_recipes.progress import progress_for
from orca_recipes.recipe.model import Recipe
from orca_recipes.run.answers.collecting import questions_of
from orca_recipes.run.answers.stored_answers import missing
from orca_recipes.run.build import Asked, Prepared, bench_of
from orca_recipes.run.conversations.course import course_of
from orca_recipes.run.execute import execute
from orca_recipes.run.work.bench import Bench
from orca_recipes.run.work.loaded_tokenizer import opened
from orca_recipes.store.arrow_files import read_frame
from orca_recipes.text_table import in_columns
from orca_recipes.traces.trace_store import Standing, TraceStore, default_root
from orca_recipes.trust import not_allowed

_HEAD = (
    *("dataset", "collection", "teacher", "strategy"),
    *("questions", "stored", "to buy", "tokens in", "tokens out", "USD"),
)

# Enough for a rate of tokens to characters: encoding every question would take minutes for the same line.
_SAMPLE = 500
"""Requests whose tokens are counted to learn how many a character makes."""


@dataclass(frozen=True)
class Line:
    """The requests of one teacher, collection and strategy, with the answers to buy and their cost.

    Attributes:
        calls: answers that must be bought; where the best of several is kept, at most so many. tokens_in: of their
            questions, about. tokens_out, usd: least and most, null where that is not known.
    """

    dataset: str
    collection: str
    teacher: str
    strategy: str
    questions: int
    stored: int
    calls: int
    tokens_in: int
    tokens_out: tuple[int, int | None]
    usd: tuple[float, float | None] | None


@dataclass(frozen=True)
class Sent:
    """A host of a teacher's requests, and the environment variable whose value goes with them.

    allowed: whether this user allowed it, or it is this machine.
    """

    teacher: str
    host: str
    variable: str
    allowed: bool

    def __str__(self) -> str:
        told = f"teachers.{self.teacher} sends requests to {Destination(self.host, self.variable)}"
        return told if self.allowed else f"{told}, not allowed yet: orca-recipe trust add {self.host} {self.variable}"


@dataclass(frozen=True)
class Bill:
    """The lines of a recipe, with what they rest on."""

    traces: str
    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    sends: tuple[Sent, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        stored, calls = (sum(getattr(line, name) for line in self.lines) for name in ("stored", "calls"))
        head = f"answers: {stored:,} stored in {self.traces}, {calls:,} to buy{self._total()}"
        table = [_HEAD, *map(_shown, self.lines)]
        told = [*map(str, self.sends), *(f"note: {note}" for note in self.notes)]
        return "\n".join([head, *in_columns(table), *told])

    def _total(self) -> str:
        priced = [line.usd for line in self.lines if line.calls]
        if not priced or any(usd is None for usd in priced):
            return ""
        most = None if any(usd[1] is None for usd in priced if usd) else sum(usd[1] or 0 for usd in priced if usd)
        return f", {_usd(sum(usd[0] for usd in priced if usd), most)} USD"


@dataclass
class _Sums:
    """Requests of one subject and strategy; sure: the calls (and characters of theirs) that no filter can spare."""

    questions: int = 0
    stored: int = 0
    calls: int = 0
    chars: int = 0
    sure: int = 0
    sure_chars: int = 0


@dataclass
class _Known:
    """Sums over a teacher's stored answers: characters and tokens of questions, lengths of answers by strategy."""

    chars: int = 0
    tokens: int = 0
    lengths: dict[str, list[int]] = field(default_factory=dict)


def billed(asked: Asked, prepared: Prepared) -> Bill | None:
    """Make the bill of a recipe, None where no answers are bought. Its questions are made ready first, and stay so."""
    recipe = asked.loaded.recipe
    teachers = _asked_teachers(recipe)
    if not teachers:
        return None
    with progress_for() as progress, TraceStore(asked.traces or default_root()) as traces:
        bench = bench_of(asked, prepared, progress)
        execute(bench, ("ask",))
        traces.refresh()
        lines: list[Line] = []
        notes: list[str] = []
        for name in teachers:
            _bill_teacher(bench, name, traces, lines, notes)
        return Bill(traces.name, tuple(lines), tuple(notes), tuple(sent_by_recipe(recipe)))


def sent_by_recipe(recipe: Recipe) -> Iterator[Sent]:
    """Tell where the requests of a recipe's teachers go, each place once a teacher."""
    for name in _asked_teachers(recipe):
        places = recipe.teachers[name].destinations()
        missing = set(not_allowed(places))
        for place in dict.fromkeys(places):
            yield Sent(name, place.host, place.variable, place not in missing)


def _asked_teachers(recipe: Recipe) -> list[str]:
    """List the teachers whose answers are bought, in recipe order."""
    return list(dict.fromkeys(chosen.teacher for name, chosen in recipe.datasets.items() if collects(recipe, name)))


def _bill_teacher(bench: Bench, name: str, traces: TraceStore, lines: list[Line], notes: list[str]) -> None:
    teacher, known = bench.recipe.teachers[name], _Known()
    sums: dict[tuple[str, str], _Sums] = {}
    sample: list[str] = []
    for subject, strategy, sample_number, stand, texts in _requests(bench, name, teacher, traces):
        mine = sums.setdefault((subject, strategy), _Sums())
        chars = sum(map(len, texts))
        mine.questions += 1
        entry = stand.entry
        if entry is None:
            mine.calls, mine.chars = mine.calls + 1, mine.chars + chars
            if not sample_number:
                mine.sure, mine.sure_chars = mine.sure + 1, mine.sure_chars + chars
            if len(sample) < _SAMPLE:
                sample.append("\n".join(texts))
            continue
        mine.stored += 1
        if entry.input_tokens is not None and entry.output_tokens is not None:
            known.chars, known.tokens = known.chars + chars, known.tokens + entry.input_tokens
            known.lengths.setdefault(strategy, []).append(entry.output_tokens)
    rate = known.tokens / known.chars if known.chars else _tokens_per_char(bench, sample)
    for (subject, strategy), mine in sums.items():
        dataset, _, collection = subject.partition("/")
        (least, _), (_, most) = (
            _length_range(calls, known.lengths.get(strategy, []), teacher.lengths())
            for calls in (mine.sure, mine.calls)
        )
        out, tokens_in = (least, most), round(mine.chars * rate)
        usd = _usd_range((round(mine.sure_chars * rate), tokens_in), out, teacher.money())
        counts = (mine.questions, mine.stored, mine.calls, tokens_in)
        lines.append(Line(dataset, collection, name, strategy, *counts, out, usd))
    if any(mine.calls > mine.sure for mine in sums.values()):
        notes.append(
            f"teachers.{name}: with best_of a further answer is bought only where filters refuse those before it; "
            "`to buy` and `tokens in` are the most that it can come to"
        )
    if any(mine.calls for mine in sums.values()):
        notes += _notes(name, teacher, known, {strategy for (_, strategy), mine in sums.items() if mine.calls})


def _requests(
    bench: Bench, name: str, teacher: Teacher, traces: TraceStore
) -> Iterator[tuple[str, str, int, Standing, list[str]]]:
    """Yield every distinct request of a teacher: subject, strategy, sample, standing in the traces, texts of its
    messages."""
    seen: set[bytes] = set()
    for questions in questions_of(bench, name):
        course = course_of(bench, *questions.subject.split("/", 1))
        for part, standings in missing(questions.asked, traces, teacher.lengths()):
            frame = read_frame(part.file(".arrow"), columns=["key", "rule", "sample", "request"])
            for key, rule, sample, messages in frame.iter_rows():
                if key is not None and key not in seen:
                    # Equal questions are one request, and are bought once.
                    seen.add(key)
                    texts = [message["content"] or "" for message in messages]
                    yield questions.subject, course.rules[rule].strategy_name, sample, standings[key], texts


def _tokens_per_char(bench: Bench, texts: Sequence[str]) -> float:
    """Count the tokens a character makes by the student's tokenizer: the teacher's is not at hand."""
    import pyarrow as pa

    chars = sum(map(len, texts))
    if not chars:
        return 0.0
    encoder = opened(bench.recipe.tokenizer, bench.student.folder)
    ids, _ = encoder.encode(texts=pa.array(texts, type=pa.large_string()), opens=True)
    return len(ids) / chars


def _length_range(calls: int, known: Sequence[int], lengths: Lengths) -> tuple[int, int | None]:
    """Estimate the tokens of so many answers: between the quartiles of those that are known (the mean within), else
    up to the limit."""
    if known:
        ordered = sorted(known)
        low, high = ordered[len(ordered) // 4], ordered[(3 * len(ordered)) // 4]
        mean = sum(ordered) / len(ordered)
        # A few very long answers lift the mean above the upper quartile: the bill must hold it all the same.
        return round(calls * min(low, mean)), round(calls * max(high, mean))
    limits = [limit for limit in lengths.limits if limit is not None]
    return calls, calls * sum(limits) if len(limits) == len(lengths.limits) else None


def _usd_range(
    tokens_in: tuple[int, int], out: tuple[int, int | None], money: Money
) -> tuple[float, float | None] | None:
    """Write the USD of the least and the most."""
    if money.prices is None:
        return None
    low, high = (
        None if number is None else money.prices.cost(input_tokens=taken, output_tokens=number, batch=money.batch)
        for taken, number in zip(tokens_in, out, strict=True)
    )
    return low or 0.0, high


def _notes(name: str, teacher: Teacher, known: _Known, strategies: set[str]) -> Iterator[str]:
    if teacher.money().prices is None:
        yield f"teachers.{name} states no prices, so the cost is not known"
    if not known.chars:
        yield f"teachers.{name}: tokens in are counted with the student's tokenizer, because no answer is stored yet"
    unknown = sorted(strategies - known.lengths.keys())
    if unknown:
        told = ", ".join(unknown)
        if None in teacher.lengths().limits:
            yield f"teachers.{name}: no answer is stored for {told}, and without max_tokens their length has no bound"
        else:
            yield f"teachers.{name}: no answer is stored for {told}: from one token to max_tokens"


def _shown(line: Line) -> tuple[str, ...]:
    usd = "?" if line.usd is None else _usd(*line.usd)
    counts = (f"{number:,}" for number in (line.questions, line.stored, line.calls, line.tokens_in))
    names = (line.dataset, line.collection, line.teacher, line.strategy)
    return (*names, *counts, _range(*line.tokens_out, "{:,}"), usd)


def _usd(low: float, high: float | None) -> str:
    return _range(low, high, "{:,.4f}" if max(low, high or 0) < 1 else "{:,.2f}")


def _range(low: float, high: float | None, form: str) -> str:
    if high is None:
        return form.format(low) + " or more"
    texts = form.format(low), form.format(high)
    return texts[0] if texts[0] == texts[1] else " to ".join(texts)
