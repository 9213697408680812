"""The page of a report, from facts: every list bounded, every text escaped.

A policy in the page names style and script by their digests, so that no text of a data set could run even if it were
not escaped, and nothing is fetched from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from orca_recipes.counted import counted
from orca_recipes.report.charts import bar, bins, histogram, quantile
from orca_recipes.report.facts import Facts
from orca_recipes.report.lost_rows import Lost
from orca_recipes.report.row_samples import Sample, clipped
from orca_recipes.report.tallies import NAMED, DatasetTallies, Tally
from orca_recipes.run.closing_table import collection_lines
from orca_recipes.shards.checks.verify_report import UNKNOWABLE
from orca_recipes.shards.manifest import AnswerCounts, DatasetCounts, Manifest
from orca_recipes.shards.records import COUNTED, DUPLICATE, EXCLUDED, HELD_OUT, RESERVED
from orca_recipes.shards.show.visible import visible

# By it a later run knows the file for a report that it may replace.
MARK = "<!doctype html>\n<!-- a report of orca-recipe -->"
MOST_LINES = 40
# All tasks would take a page of 100,000 of them past 3 MB; the manifest has them.
_MOST_TASKS = 150
_MOST_DATASETS = 24
_NAME_CHARS = 160
_RECIPE_CHARS = 60_000
_QUANTILES = ((0.05, "5%"), (0.5, "half"), (0.95, "95%"), (1.0, "all"))
_NAMES = {"strategy": "Strategies", "system_message": "System messages", "teacher": "Teachers"}
_APART = (DUPLICATE, EXCLUDED, RESERVED, HELD_OUT)


@dataclass(frozen=True)
class Line:
    """One line of a table of shares; rest: it stands for so many others."""

    name: str
    tally: Tally
    asked: str = ""
    passed_over: int = 0
    rejected: int = 0
    rest: bool = False


def page(facts: Facts) -> str:
    """Write the whole page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("orca_recipes.report"),
        autoescape=True,
        # A misspelt name in the template fails instead of printing nothing.
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters |= {"counted": counted, "thousands": "{:,}".format, "percent": "{:.1%}".format}
    style, script = (files("orca_recipes.report").joinpath("templates", name).read_text("utf-8") for name in _INLINED)
    shown = list(facts.manifest.datasets)[:_MOST_DATASETS]
    told = environment.get_template("report.html.jinja").render(
        mark=_safe(MARK),
        style=_safe(style),
        script=_safe(script),
        policy=f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)}",
        name=facts.manifest.name,
        manifest=facts.manifest,
        totals=_totals(facts.manifest),
        datasets=[_dataset(facts, name) for name in shown],
        more_datasets=len(facts.manifest.datasets) - len(shown),
        curriculum=facts.curriculum.phases[:MOST_LINES],
        more_phases=max(0, len(facts.curriculum.phases) - MOST_LINES),
        money=[_money(name, answers) for name, answers in list(facts.manifest.made.answers.items())[:_MOST_DATASETS]],
        samples=[_sample(sample) for sample in facts.samples],
        sample_datasets=_values(facts.samples, "dataset"),
        sample_collections=_values(facts.samples, "collection"),
        sample_strategies=_values(facts.samples, "strategy"),
        views_untold=facts.views_untold,
        against=facts.against,
        recipe=clipped(_recipe(facts.manifest), _RECIPE_CHARS),
        plugins=sorted(facts.manifest.plugins.items())[:MOST_LINES],
        versions=sorted(facts.manifest.made.versions.items())[:MOST_LINES],
        proof=facts.proof,
        unknowable=UNKNOWABLE,
        bar=lambda part: _safe(bar(part)),
    )
    # Nothing of the page leads anywhere; an address in a text is text, and is spelt so that nothing takes it for more.
    return told.replace("://", ":&#47;&#47;")


_INLINED = ("report.css", "report.js")


def _safe(text: str) -> Any:
    """Mark our own text as safe markup, so that jinja does not escape it."""
    from markupsafe import Markup

    return Markup(text)


def _shown(value: Any) -> Any:
    """Show the control characters of a text by signs, so that no text of a data set steers a browser, a terminal or the
    eye; other values stay."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return visible(value, keep="\n\t")
    return value


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _name(text: str) -> str:
    return clipped(text, _NAME_CHARS)


def _totals(manifest: Manifest) -> Mapping[str, int]:
    counts = manifest.datasets.values()
    fields = ("rows", "examples", "tokens", "trained_tokens")
    return {name: sum(getattr(one, name) for one in counts) for name in fields}


def _dataset(facts: Facts, name: str) -> Mapping[str, Any]:
    counts, tallies, lost = facts.manifest.datasets[name], facts.tallies[name], facts.lost[name]
    whole = Tally(counts.examples, counts.tokens, counts.trained_tokens)
    return {
        "name": _name(name),
        "counts": counts,
        "whole": whole,
        "tables": _tables(facts.manifest, name, tallies),
        "tasks": sum(len(found.tasks) for found in counts.collections.values()),
        "charts": _charts(facts.manifest, counts, tallies),
        "lost": lost[:MOST_LINES],
        "more_lost": lost[MOST_LINES:],
        "more_lost_rows": sum(one.number for one in lost[MOST_LINES:]),
        "apart": _apart(lost),
        "stages": counts.stages[: 2 * MOST_LINES],
        "more_stages": max(0, len(counts.stages) - 2 * MOST_LINES),
        "pads": counts.rows * facts.manifest.row_tokens - counts.tokens,
    }


def _tables(manifest: Manifest, dataset: str, tallies: DatasetTallies) -> list[Mapping[str, Any]]:
    """Make one table of shares for each: collection, task, and every column of NAMED."""
    collections = [
        Line(
            _name(line.collection),
            Tally(line.examples, line.tokens, line.trained_tokens),
            line.asked,
            sum(line.passed_over.values()),
            sum(line.rejected.values()),
        )
        for line in collection_lines(manifest)
        if line.dataset == dataset
    ]
    tasks = [
        Line(_name(f"{collection}/{task}"), Tally(found.examples, found.tokens, found.trained_tokens))
        for collection, of_collection in manifest.datasets[dataset].collections.items()
        for task, found in of_collection.tasks.items()
    ]
    tables: list[Mapping[str, Any]] = [
        {"title": "Collections", "with_asked": True, "lines": _bounded(collections, MOST_LINES)},
        {"title": "Tasks", "with_asked": False, "lines": _bounded(tasks, _MOST_TASKS)},
    ]
    for column in NAMED:
        lines = [Line(_name(value) or "(none)", tally) for value, tally in sorted(tallies.by[column].items())]
        tables.append({"title": _NAMES[column], "with_asked": False, "lines": _bounded(lines, MOST_LINES)})
    return tables


def _bounded(lines: Sequence[Line], most: int) -> list[Line]:
    """Return the lines in their order; if there are more than `most`, the largest ones by tokens and the others summed
    in one line."""
    if len(lines) <= most:
        return list(lines)
    ranked = sorted(range(len(lines)), key=lambda place: (-lines[place].tally.tokens, place))
    kept = [lines[place] for place in ranked[:most]]
    others = [lines[place] for place in ranked[most:]]
    total = Tally()
    for line in others:
        total = total.plus(line.tally)
    told = f"{len(others):,} others"
    lost = (sum(line.passed_over for line in others), sum(line.rejected for line in others))
    return [*kept, Line(told, total, "", *lost, rest=True)]


def _charts(manifest: Manifest, counts: DatasetCounts, tallies: DatasetTallies) -> list[Mapping[str, Any]]:
    told = (
        ("Tokens of an example", "examples", tallies.lengths, None),
        ("Trained tokens of an example", "examples", tallies.trained_lengths, None),
        (f"Tokens of a row, of {manifest.row_tokens:,}", "rows", tallies.row_tokens, manifest.row_tokens),
        ("Examples of a row", "rows", tallies.row_examples, None),
    )
    found: list[Mapping[str, Any]] = []
    for title, unit, values, top in told:
        number = int(values.sum())
        spans = bins(values, top=top)
        found.append(
            {
                "title": title,
                "unit": unit,
                "svg": _safe(histogram(spans, title=f"{title}: {unit} by number; the table below says the same")),
                "bins": [one for one in spans if one.number],
                "number": number,
                "quantiles": [(words, quantile(values, share)) for share, words in _QUANTILES],
            }
        )
    return found if counts.examples else []


def _apart(lost: Iterable[Lost]) -> list[tuple[str, int]]:
    """Sum the rows left out because another row holds the same, as repeats, duplicates, hold-outs or reserves: reason
    and number, largest first."""
    found: dict[str, int] = {}
    for one in lost:
        if one.reason in _APART or "duplicate" in one.reason or (one.reason in COUNTED and "holds" in one.reason):
            found[one.reason] = found.get(one.reason, 0) + one.number
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))[:MOST_LINES]


def _money(dataset: str, answers: AnswerCounts) -> Mapping[str, Any]:
    return {
        "dataset": _name(dataset),
        "teacher": _name(answers.teacher),
        "answers": answers,
        "spent": [(_name(name), spent) for name, spent in list(answers.spent.items())[:MOST_LINES]],
        "strategies": [(_name(name), counts) for name, counts in list(answers.strategies.items())[:MOST_LINES]],
        "rejections": sorted(answers.rejections, key=lambda one: -one.answers)[:MOST_LINES],
    }


def _sample(sample: Sample) -> Mapping[str, Any]:
    names = ("dataset", "collection", "task", "strategy", "system_message", "teacher", "place")
    return {
        **{name: _name(getattr(sample, name)) for name in names},
        "id": sample.id,
        "row": sample.row,
        "tokens": sample.tokens,
        "trained_tokens": sample.trained_tokens,
        "pieces": sample.pieces,
        "asked": sample.asked,
    }


def _values(found: Sequence[Sample], field: str) -> list[str]:
    return sorted({_name(getattr(sample, field)) for sample in found} - {""})


def _recipe(manifest: Manifest) -> str:
    import tomli_w

    return tomli_w.dumps(dict(manifest.recipe))
