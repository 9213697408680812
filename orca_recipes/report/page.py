"""The page of a report, from facts: every list bounded, every text escaped.

A policy in the page names style and script by their digests, so that no text of a data set could run even if it were
not escaped, and nothing is fetched from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from orca_recipes.counted import counted
from orca_recipes.report.charts import bar, bins, histogram, quantile
from orca_recipes.report.facts import Facts
from orca_recipes.report.lost_rows import Lost
from orca_recipes.report.row_samples import Sample, beginning, clipped
from orca_recipes.report.share_tables import MOST_LINES, alike, named, share_tables, short
from orca_recipes.report.tallies import DatasetTallies, Tally
from orca_recipes.shards.checks.verify_report import UNKNOWABLE
from orca_recipes.shards.manifest import AnswerCounts, DatasetCounts, Manifest
from orca_recipes.shards.records import COUNTED, DUPLICATE, EXCLUDED, HELD_OUT, RESERVED
from orca_recipes.shards.show.visible import visible

# By it a later run knows the file for a report that it may replace.
MARK = "<!doctype html>\n<!-- a report of orca-recipe -->"
# With these bounds the page of any build stays below 3 MB; what they leave out is counted in one line.
_MOST_DATASETS = 24
_RECIPE_CHARS = 60_000
_QUANTILES = ((0.05, "5%"), (0.5, "half"), (0.95, "95%"), (1.0, "all"))
_APART = (DUPLICATE, EXCLUDED, RESERVED, HELD_OUT)


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
    fell_short, more_short = short(facts.manifest)
    shown = list(facts.manifest.datasets)[:_MOST_DATASETS]
    told = environment.get_template("report.html.jinja").render(
        mark=_safe(MARK),
        style=_safe(style),
        script=_safe(script),
        # Text of the data that slipped through as markup could still run no script and fetch nothing.
        policy=f"default-src 'none'; img-src data:; style-src {_source(style)}; script-src {_source(script)}",
        name=facts.manifest.name,
        manifest=facts.manifest,
        totals=_totals(facts.manifest),
        short=fell_short,
        more_short=more_short,
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


def _totals(manifest: Manifest) -> Mapping[str, int]:
    counts = manifest.datasets.values()
    fields = ("rows", "examples", "tokens", "trained_tokens")
    return {name: sum(getattr(one, name) for one in counts) for name in fields}


def _dataset(facts: Facts, name: str) -> Mapping[str, Any]:
    counts, tallies, lost = facts.manifest.datasets[name], facts.tallies[name], facts.lost[name]
    whole = Tally(counts.examples, counts.tokens, counts.trained_tokens)
    return {
        "name": named(name),
        "counts": counts,
        "whole": whole,
        "alike": alike(tallies),
        "tables": share_tables(facts.manifest, name, tallies),
        "tasks": sum(len(found.tasks) for found in counts.collections.values()),
        "charts": _charts(facts.manifest, counts, tallies),
        "lost": [_bounded_lost([one for one in lost if one.listed == listed]) for listed in (True, False)],
        "apart": _apart(lost),
        "stages": counts.stages[: 2 * MOST_LINES],
        "more_stages": max(0, len(counts.stages) - 2 * MOST_LINES),
        "pads": counts.rows * facts.manifest.row_tokens - counts.tokens,
    }


def _bounded_lost(lost: Sequence[Lost]) -> Mapping[str, Any]:
    others = lost[MOST_LINES:]
    return {
        "lines": lost[:MOST_LINES],
        "number": sum(one.number for one in lost),
        "others": len(others),
        "other_rows": sum(one.number for one in others),
    }


def _charts(manifest: Manifest, counts: DatasetCounts, tallies: DatasetTallies) -> list[Mapping[str, Any]]:
    told = (
        ("Tokens of an example", "example", tallies.lengths, None),
        ("Trained tokens of an example", "example", tallies.trained_lengths, None),
        (
            f"Tokens of a row, at most {manifest.row_tokens:,}",
            "row",
            tallies.row_tokens,
            manifest.row_tokens,
        ),
        ("Examples of a row", "row", tallies.row_examples, None),
    )
    found: list[Mapping[str, Any]] = []
    for title, unit, values, top in told:
        number = int(values.sum())
        spans = bins(values, top=top)
        found.append(
            {
                "title": title,
                "unit": unit,
                "svg": _safe(
                    histogram(spans, title=f"{title}: number of {unit}s by length; the table below says the same")
                ),
                "tallest": max(one.number for one in spans),
                "axis": (spans[0].low, (spans[0].low + spans[-1].high) // 2, spans[-1].high),
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
        "dataset": named(dataset),
        "teacher": named(answers.teacher),
        "answers": answers,
        "spent": [(named(name), spent) for name, spent in list(answers.spent.items())[:MOST_LINES]],
        "strategies": [(named(name), counts) for name, counts in list(answers.strategies.items())[:MOST_LINES]],
        "rejections": sorted(answers.rejections, key=lambda one: -one.answers)[:MOST_LINES],
    }


def _sample(sample: Sample) -> Mapping[str, Any]:
    names = ("dataset", "collection", "task", "strategy", "system_message", "teacher", "place")
    return {
        **{name: named(getattr(sample, name)) for name in names},
        "id": sample.id,
        "row": sample.row,
        "tokens": sample.tokens,
        "trained_tokens": sample.trained_tokens,
        "pieces": sample.pieces,
        "asked": sample.asked,
        "begins": beginning(piece.text for piece in sample.pieces if piece.is_trained),
    }


def _values(found: Sequence[Sample], field: str) -> list[str]:
    return sorted({named(getattr(sample, field)) for sample in found} - {""})


def _recipe(manifest: Manifest) -> str:
    import tomli_w

    return tomli_w.dumps(dict(manifest.recipe))
