"""Answers of `explain`, as a page for a reader who knows nothing of the build.

Every text of a data set goes through `visible` on its way to the page, so that none steers a terminal or passes for a
line of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import zip_longest
from textwrap import wrap
from typing import Any

from orca_recipes.counted import counted
from orca_recipes.explain.story import (
    Alike,
    Draw,
    Exchange,
    Fate,
    Making,
    Origin,
    RuleMatch,
    Standing,
    Story,
    TokenView,
)
from orca_recipes.shards.show.visible import visible
from orca_recipes.text_table import in_columns

FLAG_WORDS = {
    "cut": "cut (its teacher did not finish the last answer)",
    "truncated": "truncated (packing cut the end of the last answer)",
    "turns_dropped": "turns_dropped (packing took the newest turns away)",
    "history_dropped": "history_dropped (the oldest exchanges were left out, so that the rest fits into a row)",
    "tail_trimmed": "tail_trimmed (the turns behind the last answer were left out)",
}
# A story is a screen: longer texts are whole in `show` and in --json.
_LONGEST_QUOTE = 200
_COLUMN, _LINES = 48, 16
"""Characters and lines of each of two texts that stand side by side."""


@dataclass(frozen=True)
class Explanation:
    """The answer to one question."""

    stories: tuple[Story, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return "\n\n".join(_page(story) for story in self.stories)


def _page(story: Story) -> str:
    origin = story.origin
    blocks = [[f"example {origin.id}" if origin.id else f"row {place_text(origin)}"]]
    blocks.append(_aligned(_origin_lines(origin)))
    for fate in story.fates:
        blocks.append([f"in dataset {fate.dataset}: {fate.outcome}"])
        blocks.append(_aligned(_fate_lines(fate)))
    return "\n\n".join("\n".join(visible(line) for line in block) for block in blocks if block)


def place_text(origin: Origin) -> str:
    """Write a row's place for people: FILE:LINE, or the number of a generated item."""
    return f"{origin.file}:{origin.place}" if origin.file is not None else f"item {origin.place}"


def _origin_lines(origin: Origin) -> Iterator[tuple[str, str]]:
    generated = "" if origin.file is not None else ", generated"
    yield "source", place_text(origin) + generated
    yield "collection", origin.collection
    yield "read by", f"{origin.kind} ({origin.options})" if origin.options else origin.kind
    if origin.task is not None:
        yield "task", origin.task
    if origin.category is not None:
        yield "category", origin.category


def _fate_lines(fate: Fate) -> Iterator[tuple[str, str]]:
    if fate.token is not None:
        yield from _token_lines(fate.token)
    if fate.stage is not None:
        yield "stage", fate.stage
    if fate.reason is not None:
        yield "reason", fate.reason
    for alike in fate.alike:
        yield from _alike_lines(alike)
    if fate.draw is not None:
        yield from _draw_lines(fate.draw)
    if fate.making is not None:
        yield from _making_lines(fate.making)
    if fate.standing is not None:
        yield from _standing_lines(fate.standing)


def _alike_lines(alike: Alike) -> Iterator[tuple[str, str]]:
    where = f"item {alike.place}" if alike.file is None else f"{alike.file}:{alike.place}"
    yield "like", f"{alike.likeness:.2f} by filter {alike.filter}: example {alike.twin}, {alike.collection}/{where}"
    if alike.mine is None or alike.theirs is None:
        yield "texts", "unknown: the store no longer holds both rows"
        return
    mine, theirs = (wrap(text, _COLUMN, max_lines=_LINES) for text in (alike.mine, alike.theirs))
    yield "both", f"{'this row':{_COLUMN}} | its twin"
    for one, other in zip_longest(mine, theirs, fillvalue=""):
        yield "", f"{one:{_COLUMN}} | {other}".rstrip()


def _token_lines(token: TokenView) -> Iterator[tuple[str, str]]:
    yield "token", f"{token.token} at place {token.at} of the row, {token.at_in_example} of the example, from 0"
    yield "text", _quoted(token.text) if token.text else "none by itself: it is part of a character"
    yield "in context", f"{token.before}⟦{token.text}⟧{token.after}"
    kind = "trained" if token.is_in_trained_segment else "not trained"
    yield "segment", f"{token.segment} of the row, from 0: role {token.role}, {kind}"
    if token.is_label:
        yield "loss", "yes: the model is asked for this token after the ones before it"
    elif token.is_in_trained_segment:
        yield "loss", "no: the first token of an example has none before it"
    else:
        yield "loss", "no: the model reads it and is not asked for it"


def _draw_lines(draw: Draw) -> Iterator[tuple[str, str]]:
    limit = ", cut by --limit" if draw.is_limited else ""
    order = ", the first in keyed order" if draw.taken - draw.repeats < draw.there else ""
    again = f", {draw.repeats:,} of them repeats" if draw.repeats else ""
    text = f"{draw.take}{limit}: {draw.taken:,} of {counted(draw.there, 'row')}{order}{again}"
    yield "draw", f"mixtures.{draw.mixture} takes {text}"
    for reason, number in draw.left_out.items():
        yield "left out", f"{counted(number, 'row')}: {reason}"
    if draw.key is None:
        return
    if draw.rank is None:
        yield "rank", f"unknown: {draw.unknown} (key {draw.key})"
    else:
        verdict = "taken" if draw.rank <= draw.taken - draw.repeats else "left out"
        yield "rank", f"{draw.rank:,} of {draw.there:,} in keyed order, so {verdict} (key {draw.key})"


def _making_lines(making: Making) -> Iterator[tuple[str, str]]:
    yield "rule", _rule(making.rule)
    if making.system_message is not None:
        yield "system message", _system_message(making)
    if making.strategy is not None:
        yield "strategy", _with_kind(making.strategy, making.strategy_kind)
    yield "teacher", _with_kind(making.teacher, making.teacher_kind)
    for exchange in making.exchanges:
        yield "asked" if len(making.exchanges) == 1 else f"asked, sample {exchange.sample}", _exchange(exchange)
    if making.filters is not None:
        yield "filters passed", "; ".join(making.filters) or "none"
    yield "student sees", making.student
    yield "template", making.template


def _exchange(exchange: Exchange) -> str:
    if exchange.unknown is not None:
        return f"unknown: {exchange.unknown}"
    model = exchange.model_asked
    if exchange.model_reported not in (None, model):
        model = f"{model} (the server says {exchange.model_reported})"
    tokens = (
        "? tokens" if number is None else counted(number, "token")
        for number in (exchange.input_tokens, exchange.output_tokens)
    )
    limit = "" if exchange.max_tokens is None else f" of at most {exchange.max_tokens:,}"
    named = f", request {exchange.request_id}" if exchange.request_id else ""
    told = "{} in, {} out".format(*tokens)
    return f"{model} at {exchange.endpoint}, {exchange.time}: {told}{limit}, finish {exchange.finish_reason}{named}"


def _rule(rule: RuleMatch) -> str:
    if rule.unknown is not None:
        return rule.unknown
    if rule.number is None:
        return f"none of {rule.rules} matches, so direct" if rule.rules else "the recipe has none, so direct"
    conditions = " and ".join(f"{name} is {' or '.join(values)}" for name, values in rule.when.items())
    return f"{rule.number} of {rule.rules}, " + (f"when {conditions}" if conditions else "which matches everything")


def _system_message(making: Making) -> str:
    if making.system_message:
        text = making.system_message_text
        how = "one of several that the rule makes an example each for" if making.is_expanded else "drawn by key"
        return f"{making.system_message}, {how}" + (f": {_quoted(text)}" if text is not None else "")
    return "none drawn" + (": the conversation has its own" if making.has_own_system_message else "")


def _standing_lines(standing: Standing) -> Iterator[tuple[str, str]]:
    yield "tokens", f"{standing.tokens:,}, of which {standing.trained_tokens:,} trained"
    if standing.turn is not None:
        yield "turn", f"{standing.turn} of the assistant's; other trained turns have examples of their own"
    if standing.window is not None:
        yield "window", f"{standing.window} of an example that is longer than a row; each trains what others do not"
    for left in standing.untrained:
        yield "untrained", f"answer {left['turn']} by {left['stage']}: {left['reason']}"
    yield "flags", "; ".join(FLAG_WORDS[flag] for flag in standing.flags) or "none"
    dealt = "the only one"
    if standing.shards is None:
        dealt = "by the low half of the id"
    elif standing.shards > 1:
        number = int(standing.shard.rpartition("/")[2])
        dealt = f"the low half of the id modulo {standing.shards} shards is {number}"
    yield "shard", f"{standing.shard} ({dealt})"
    yield "row", f"{standing.row} of the build, {standing.row_in_shard} of the shard, from 0"
    last = standing.place + standing.tokens - 1
    yield "place in the row", f"tokens {standing.place} to {last}, from 0; a row holds {standing.row_tokens:,}"
    phases = [f"phase {number} ({epochs} epoch{'' if epochs == 1 else 's'})" for number, epochs in standing.phases]
    yield "curriculum", ", ".join(phases) or "no phase trains on this dataset"


def _with_kind(name: str, kind: str | None) -> str:
    return name if kind is None or kind == name else f"{name} (kind {kind})"


def _quoted(text: str) -> str:
    return f'"{text}"' if len(text) <= _LONGEST_QUOTE else f'"{text[:_LONGEST_QUOTE]}…"'


def _aligned(lines: Iterator[tuple[str, str]]) -> list[str]:
    return in_columns([(f"  {label}", text) for label, text in lines])
