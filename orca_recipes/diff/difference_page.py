"""A difference as people read it in a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from orca_recipes.counted import counted
from orca_recipes.diff.changed_examples import ChangedExample, Standing
from orca_recipes.diff.difference import Difference
from orca_recipes.diff.sides import told
from orca_recipes.diff.value_changes import Change

MEANINGS = {
    "same": "nothing differs",
    "added": "only in the second",
    "dropped": "only in the first",
    "reanswered": "another trained text",
    "reasked": "the same trained text after another context",
    "remasked": "the same tokens, others of them trained",
    "provenance": "the same tokens and mask, recorded otherwise (task, place, strategy, teacher's view)",
    "moved": "the same example in another row or dataset",
}
"""What each class of examples means, in few words."""

_PINS = {"build": "pins and stages", "lock": "pins and outcomes", "recipe": "pins and outcomes"}
# A page for a terminal: what these cut is whole in --json.
_MOST_CHANGES = 40
_VALUE_CHARS = 100
_TEXT_CHARS = 300


def difference_page(found: Difference) -> str:
    """Lay a difference out in lines."""
    return "\n".join(_lines(found))


def _lines(found: Difference) -> Iterator[str]:
    yield f"first:  {told(found.before)}"
    yield f"second: {told(found.after)}"
    for title, changes in (("asked", found.recipe), (_PINS[found.before.sort], found.pins)):
        yield f"{title}: {counted(len(changes), 'change') if changes else 'equal'}"
        yield from (_change(change) for change in changes[:_MOST_CHANGES])
        if len(changes) > _MOST_CHANGES:
            yield f"  and {len(changes) - _MOST_CHANGES:,} more (--json has all)"
    yield from (f"not compared: {what}" for what in found.not_compared)
    if found.rows is not None and found.tokens is not None:
        yield "examples:"
        yield from (f"  {number:>12,} {name:<11} {MEANINGS[name]}" for name, number in found.rows.items() if number)
        yield from _tokens(found.tokens)
        if any(found.examples.values()):
            yield "to look at, with what is trained in ⟦⟧:"
        for name, examples in found.examples.items():
            for example in examples:
                yield from _example(name, example)
    if found.is_equal:
        yield "equal"


def _change(change: Change) -> str:
    return f"  {change.path}: {shown_value(change.before)} -> {shown_value(change.after)}"


def shown_value(value: Any) -> str:
    """Write a value in few characters."""
    if value is None:
        return "nothing"
    if isinstance(value, str) and (digest := re.fullmatch(r"((?:\w+:)?[0-9a-f]{8})[0-9a-f]{24,}", value)):
        return f"{digest[1]}…"
    text = json.dumps(value, ensure_ascii=False, sort_keys=True)
    return text if len(text) <= _VALUE_CHARS else f"{text[: _VALUE_CHARS - 1]}…"


def _tokens(tokens: Mapping[str, Any]) -> Iterator[str]:
    yield f"tokens: {_counts(tokens)}"
    lines = (line for name, dataset in tokens["datasets"].items() for line in _of_dataset(name, dataset))
    yield from islice(lines, _MOST_CHANGES)
    if next(lines, None) is not None:
        yield "  and more (--json has all)"


def _of_dataset(name: str, dataset: Mapping[str, Any]) -> Iterator[str]:
    yield f"  {name}: {_counts(dataset)}"
    for collection, counts in dataset["collections"].items():
        yield f"    {collection}: {_counts(counts)}"
        for task, pair in counts["tasks"].items():
            yield f"      {task}: {_counts(pair)}"


def _counts(pair: Mapping[str, Any]) -> str:
    before, after = pair["before"], pair["after"]
    words = (("examples", "examples"), ("tokens", "tokens"), ("trained_tokens", "trained"))
    return ", ".join(
        f"{before[key]:,} {word}" if before[key] == after[key] else f"{before[key]:,} -> {after[key]:,} {word}"
        for key, word in words
    )


def _example(name: str, example: ChangedExample) -> Iterator[str]:
    turn = "" if example.turn < 0 else f", turn {example.turn}"
    yield f"{name}: example {example.id}{turn}"
    for word, standing in (("first", example.before), ("second", example.after)):
        if standing is not None:
            yield f"  {word}: {_provenance(standing)}"
            if name != "moved" or word == "second":
                yield f"    {_text(standing)}"


def _provenance(standing: Standing) -> str:
    source = "generated" if standing.file is None else f"{standing.file}:{standing.place}"
    names = [standing.strategy, standing.system_message, standing.teacher]
    where = f"{standing.shard} row {standing.row}, {standing.collection}/{standing.task}, {source}"
    return ", ".join([where, *filter(None, names), f"{standing.tokens:,} tokens, {standing.trained_tokens:,} trained"])


def _text(standing: Standing) -> str:
    """Return the text of an example on one line, shortened, its trained parts in brackets."""
    text = "".join(f"⟦{span.text}⟧" if span.trained else span.text for span in standing.segments)
    text = " ".join(text.split())
    return text if len(text) <= _TEXT_CHARS else f"{text[: _TEXT_CHARS // 2]} … {text[-_TEXT_CHARS // 2 :]}"
