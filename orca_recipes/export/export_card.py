"""Write the README.md of an export: its head for dataset hubs, its contents, and the trainer's settings."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence

from orca_recipes.contract.exporter import BuildToExport, Exporter, Shards, Written
from orca_recipes.counted import counted


def readme(exporter: Exporter, build: BuildToExport, shards: Shards) -> str:
    """Write the page of an export: the same text for the same build."""
    head = [f"{name}: {json.dumps(value)}" for name, value in exporter.card(build=build).items()]
    front = ["---", *head, "---", ""] if head else []
    every = [written for of_dataset in shards.values() for written in of_dataset]
    labels = sum(written.trained_labels for written in every)
    lost: Counter[str] = Counter()
    for written in every:
        lost.update(written.lost)
    lines = [
        f"# {build.name}, for {exporter.title}",
        "",
        f"Exported from the build `{build.digest}`: {counted(sum(w.examples for w in every), 'example')}, "
        f"{counted(sum(w.tokens for w in every), 'token')}, of which {labels:,} are trained.",
        *([""] if lost else []),
        *(f"- {number:,} trained labels of the build are lost: {reason}." for reason, number in sorted(lost.items())),
        "",
        "`tokenizer/` holds the tokenizer and the chat template that made the tokens; give it to the trainer.",
        f"The model's embedding needs {counted(build.vocabulary_size, 'token')}; "
        f"the longest example has {counted(build.longest_example, 'token')}.",
        "",
        exporter.settings(build=build, shards=shards).strip("\n"),
        *_risks(every),
    ]
    return "\n".join([*front, *lines]) + "\n"


def wrong_settings(every: Sequence[Written]) -> list[dict[str, str | int]]:
    """Count over all shards what other settings of the trainer would do."""
    found: Counter[tuple[str, str]] = Counter()
    for written in every:
        for setting, effects in written.risks.items():
            found.update({(setting, effect): number for effect, number in effects.items()})
    return [
        {"setting": setting, "effect": effect, "count": number} for (setting, effect), number in sorted(found.items())
    ]


def _risks(every: Sequence[Written]) -> Iterator[str]:
    counts = wrong_settings(every)
    if counts:
        yield from ("", "## What other settings would do to these data", "")
        yield from (f"- {one['setting']}: {one['count']:,} {one['effect']}" for one in counts)
