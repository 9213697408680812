"""What the filters that compare find of pairs and items with known truth, and how much text they look at a CPU second.

The pairs and items go through a filter's own `sketch` and `likeness` and the core's `meetings`, part by part as a build
does. Truth is not taken from the product: exact Jaccard is computed on plain sets, contamination is told by a file.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import polars as pl

from orca_plugins.filters.decontaminate import Decontaminate
from orca_plugins.filters.near_duplicates import NearDuplicates
from orca_recipes.contract.comparison import Comparison
from orca_recipes.run.comparisons.meeting import Known, Met, meetings, rising, rising_order, widely_shared

ROWS_A_PART = 4_000
PAIRS_A_TASK = 20_000
MEASURED_BYTES = 64 << 20
"""The texts are repeated, with other words in each copy, until they are as long: less says nothing of speed."""


@dataclass(frozen=True)
class Found:
    """pairs: int64 [pairs, 2]. likeness: float64 [pairs]. bytes, cpu_seconds: of all texts."""

    pairs: np.ndarray
    likeness: np.ndarray
    bytes: int
    cpu_seconds: float

    @property
    def rate(self) -> float:
        return self.bytes / 1e6 / self.cpu_seconds


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def compared(kind: Comparison, own: pl.DataFrame, others: pl.DataFrame) -> Found:
    """All pairs that a comparison verifies of own rows, and of these with others, numbered after them."""
    started = time.process_time()
    parts, common, known = _of_others(kind, others, own.height)
    sketch = kind.sketch if known is None else partial(kind.sketch_near, known=known)
    parts += _parts(sketch, own, 0)
    pairs = meetings(
        parts,
        order=np.concatenate([np.arange(own.height), np.arange(-others.height, 0)]),
        own=own.height,
        unit=np.arange(own.height, dtype=np.uint64),
        among=kind.among_themselves(),
        least_estimate=kind.least_estimate(),
    )
    everything = pl.concat([own, others])
    likeness = [np.empty(0)]
    for start in range(0, len(pairs), PAIRS_A_TASK):
        mine, theirs = (everything[pairs[start : start + PAIRS_A_TASK, side]] for side in (0, 1))
        found = kind.likeness(mine=mine, theirs=theirs, shared=common)
        likeness.append(found.fill_null(float("nan")).to_numpy())
    spent = time.process_time() - started
    alike = np.concatenate(likeness)
    size = sum(int(everything[name].str.len_bytes().sum()) for name in everything.columns)
    return Found(pairs[~np.isnan(alike)], alike[~np.isnan(alike)], size, spent)


def _of_others(kind: Comparison, others: pl.DataFrame, start: int) -> tuple[list[Met], np.ndarray, Known | None]:
    if kind.among_themselves():
        return [], np.empty(0, dtype=np.uint64), None
    (part,) = _parts(kind.sketch_others, others, start, rows=max(others.height, 1))
    common, keep = widely_shared(part.keys, part.rows.astype(np.int64), kind.most_sharing() or len(part.keys))
    part = Met(part.keys[keep], part.rows[keep], part.start)
    return [part], common, Known(rising(np.concatenate([part.keys, common])))


def _parts(sketch: Callable[..., Any], texts: pl.DataFrame, first: int, rows: int = ROWS_A_PART) -> list[Met]:
    parts = []
    for start in range(0, texts.height, rows):
        made = sketch(texts=texts[start : start + rows])
        order = rising_order(made.keys)
        parts.append(Met(made.keys[order], made.rows[order], first + start))
    return parts


def texts_of(questions: Sequence[str], answers: Sequence[str] | None = None) -> pl.DataFrame:
    told = answers if answers is not None else [""] * len(questions)
    return pl.DataFrame({"question": questions, "answer": told}, schema={"question": pl.String, "answer": pl.String})


def copies_of(texts: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Copies of texts until they are long enough to measure, none alike another: each has words of its own."""
    size = max(sum(int(texts[name].str.len_bytes().sum()) for name in texts.columns), 1)
    for number in range(1, -(-MEASURED_BYTES // size)):
        yield texts.with_columns(pl.all().str.replace_all(r"([A-Za-z0-9])(\s|$)", f"${{1}}{_letters(number)}$2"))


def _letters(number: int) -> str:
    return "".join(chr(ord("a") + int(digit)) for digit in str(number))


def jaccard(one: str, other: str, ngram: int) -> float:
    """Exact, of plain sets of tuples of words."""
    one_set, other_set = (
        {tuple(words[at : at + ngram]) for at in range(max(len(words) - ngram, 0) + 1)} if words else set()
        for words in (one.lower().split(), other.lower().split())
    )
    return len(one_set & other_set) / max(len(one_set | other_set), 1)


@click.command("near_duplicates")
@click.option("--pairs", required=True, type=click.Path(path_type=Path), help="JSON lines {a, b, kind}.")
@click.option("--json", "out", required=True, type=click.Path(path_type=Path), help="Where to write what was found.")
@click.option("--threshold", default=0.7, show_default=True)
@click.option("--ngram", default=5, show_default=True)
def near_duplicates(pairs: Path, out: Path, threshold: float, ngram: int) -> None:
    """Pairs with known truth: which are found, and what is found that is no pair."""
    told = lines_of(pairs)
    kind = NearDuplicates(kind="near_duplicates", of="question", ngram=ngram, threshold=threshold)
    texts = [text for line in told for text in (line["a"], line["b"])]
    own = texts_of(texts)
    nobody = texts_of([])
    found = compared(kind, own, nobody)
    exact = [jaccard(line["a"], line["b"], ngram) for line in told]
    met = {tuple(sorted(pair)) for pair in found.pairs.tolist()}
    is_found = [(2 * place, 2 * place + 1) in met for place in range(len(told))]
    below = sum(jaccard(texts[one], texts[other], ngram) < threshold for one, other in met)
    measured = compared(kind, pl.concat([own, *copies_of(own)]), nobody)
    answer = {
        "recall_at_or_above": _share(
            [there for there, is_like in zip(is_found, exact, strict=True) if is_like >= threshold]
        ),
        "below_threshold": below,
        "mb_per_cpu_second": round(measured.rate, 1),
        "by_kind": {
            name: _of_kind(
                [place for place, line in enumerate(told) if line["kind"] == name], exact, is_found, threshold
            )
            for name in sorted({line["kind"] for line in told})
        },
        "pairs": len(told),
        "found": len(met),
        "measured_mb": round(measured.bytes / 1e6, 1),
    }
    _tell(answer, out)


def _of_kind(
    places: Sequence[int], exact: Sequence[float], is_found: Sequence[bool], threshold: float
) -> Mapping[str, Any]:
    like = [place for place in places if exact[place] >= threshold]
    return {
        "pairs": len(places),
        "at_or_above": len(like),
        "found": sum(is_found[place] for place in places),
        "found_at_or_above": sum(is_found[place] for place in like),
        "least_jaccard": round(min(exact[place] for place in places), 3),
    }


@click.command("decontaminate")
@click.option("--train", required=True, type=click.Path(path_type=Path), help="JSON lines of questions and answers.")
@click.option("--benchmark", required=True, type=click.Path(path_type=Path), help="JSON lines of a benchmark's items.")
@click.option("--truth", required=True, type=click.Path(path_type=Path), help="JSON lines {place, item}; see README.")
@click.option("--json", "out", required=True, type=click.Path(path_type=Path), help="Where to write what was found.")
@click.option("--ngram", default=13, show_default=True)
@click.option("--fraction", default=0.5, show_default=True)
def decontaminate(train: Path, benchmark: Path, truth: Path, out: Path, ngram: int, fraction: float) -> None:
    """Benchmark items in disguise with known truth: which are found, and what is flagged besides."""
    rows, items, known = lines_of(train), lines_of(benchmark), lines_of(truth)
    kind = Decontaminate(kind="decontaminate", against=("benchmark",), ngram=ngram, fraction=fraction)
    own = texts_of(*zip(*map(question_and_answer, rows), strict=True))
    others = texts_of(*zip(*map(question_and_answer, items), strict=True))
    found = compared(kind, own, others)
    first = min([1, *(line["place"] for line in known)])
    best = _best(found, own.height)
    flagged = [
        {"place": row + first, "item": items[item].get("id", item + first), "likeness": round(share, 3)}
        for row, (item, share) in sorted(best.items())
    ]
    places = {line["place"] for line in flagged}
    bad = {line["place"] for line in known if is_contaminated(line)}
    clean = {line["place"] for line in known if not is_contaminated(line)}
    kinds = {line["place"]: line.get("kind", "") for line in known}
    measured = compared(kind, pl.concat([own, *copies_of(own)]), others)
    answer = {
        "recall": _share([place in places for place in sorted(bad)]),
        "false_alarms": len(places & clean),
        "flagged": flagged,
        "mb_per_cpu_second": round(measured.rate, 1),
        "missed": [{"place": place, "kind": kinds[place]} for place in sorted(bad - places)],
        "flagged_unknown": len(places - bad - clean),
        "rows": len(rows),
        "items": len(items),
        "measured_mb": round(measured.bytes / 1e6, 1),
    }
    _tell(answer, out)


def question_and_answer(line: Mapping[str, Any]) -> tuple[str, str]:
    """Of a row of any layout that the benchmarks have: what is asked, and what is answered."""
    if isinstance(line.get("messages"), list):
        asked, told = (
            "\n".join(turn["content"] or "" for turn in line["messages"] if turn["role"] == role)
            for role in ("user", "assistant")
        )
        return asked, told
    names = (
        ("question", "input", "prompt", "text", "instruction"),
        ("answer", "target", "response", "output", "completion"),
    )
    question, answer = (next((str(line[name]) for name in each if line.get(name) is not None), "") for each in names)
    head = [str(line[name]) for name in ("passage",) if line.get(name)]
    return "\n".join([*head, question]), answer


def is_contaminated(line: Mapping[str, Any]) -> bool:
    """A line of truth is of a clean row where it says so, or names no item."""
    return bool(line["contaminated"]) if "contaminated" in line else line.get("item") is not None


def _best(found: Found, own: int) -> dict[int, tuple[int, float]]:
    """Row to the item that stands in it most."""
    best: dict[int, tuple[int, float]] = {}
    for (row, other), share in zip(found.pairs.tolist(), found.likeness.tolist(), strict=True):
        if row not in best or share > best[row][1]:
            best[row] = other - own, share
    return best


def _share(told: Sequence[bool]) -> float:
    return round(sum(told) / len(told), 4) if told else 1.0


def _tell(answer: Mapping[str, Any], out: Path) -> None:
    out.write_text(json.dumps(answer, indent=1) + "\n", encoding="utf-8")
    for name, value in answer.items():
        click.echo(
            f"{name}: {len(value) if name in ('flagged', 'missed') else re.sub(r'^{|}$', '', json.dumps(value))}"
        )
