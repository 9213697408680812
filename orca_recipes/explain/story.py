"""What became of a row, as data: JSON holds the same facts under the names of the fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEPT = "kept"
REJECTED = "rejected"
NOT_DRAWN = "not drawn"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Origin:
    """The source of a row.

    id: 32 hexadecimal digits, None where the row never got one. kind, options: of the collection's source.
    file: None where rows are generated. place: 1-based line, row or item. task, category: None where unknown.
    """

    id: str | None
    collection: str
    kind: str
    options: str
    file: str | None
    place: int | None
    task: str | None
    category: str | None


@dataclass(frozen=True)
class Draw:
    """A mixture's take of a collection, and the row's rank in the draw.

    take: as the recipe says it. taken: rows drawn, `repeats` of them for another time; there: rows that could be drawn.
    left_out: the others, reason to number. is_limited: whether --limit took fewer than the recipe says. key: 16
    hexadecimal digits, None where no row was left undrawn or the row has no id. rank: from 1, in keyed order; where it
    is not known, `unknown` says why.
    """

    mixture: str
    take: str
    taken: int
    there: int
    repeats: int
    left_out: Mapping[str, int]
    is_limited: bool
    key: str | None
    rank: int | None
    unknown: str | None


@dataclass(frozen=True)
class RuleMatch:
    """The rule that gave a row its strategy.

    number: from 1 in the order of the recipe; None where none of its `rules` matched, or where it is not certain:
    then `unknown` says which may have, and why.
    """

    number: int | None
    rules: int
    when: Mapping[str, tuple[str, ...]]
    unknown: str | None


@dataclass(frozen=True)
class Exchange:
    """A question that a teacher was asked, and its answer, as the trace store keeps them.

    sample: from 0. time: UTC. Tokens are None where the server did not count, max_tokens where none was said; where
    nothing is known, `unknown` says why.
    """

    sample: int = 0
    model_asked: str = ""
    model_reported: str | None = None
    endpoint: str = ""
    time: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    max_tokens: int | None = None
    finish_reason: str = ""
    request_id: str | None = None
    unknown: str | None = None


@dataclass(frozen=True)
class Making:
    """The making of a conversation; None for steps that were not reached or are not known.

    system_message: its name, "" where none was drawn; its text where the recipe holds it. is_expanded: whether the rule
    made an example of its own for each of its system messages. kinds: of the strategy and of the teacher. filters:
    those that kept the row. student: what the student sees of the prompt. exchanges: what the teacher was asked, where
    its answers are bought.
    """

    rule: RuleMatch
    system_message: str | None
    is_expanded: bool
    system_message_text: str | None
    has_own_system_message: bool
    strategy: str | None
    strategy_kind: str | None
    teacher: str
    teacher_kind: str
    filters: tuple[str, ...] | None
    student: str
    template: str
    exchanges: tuple[Exchange, ...] = ()


@dataclass(frozen=True)
class Standing:
    """The place of an example in a build: shard, row and position in the row.

    shards: over which ids are dealt, None where that cannot be told. row: counted through the build, row_in_shard
    through the shard, both from 0. place: tokens stored before it in its row. phases: (number from 1, how often).
    turn: of the assistant's, for which it was made alone. window: which of the windows of a long example it is.
    untrained: answers of its conversation that filters left as context: turn, stage and reason of each.
    """

    shard: str
    shards: int | None
    row: int
    row_in_shard: int
    place: int
    tokens: int
    trained_tokens: int
    row_tokens: int
    flags: tuple[str, ...]
    phases: tuple[tuple[int, int | str], ...]
    turn: int | None = None
    window: int | None = None
    untrained: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class TokenView:
    """One token of a row.

    at: its place among the stored tokens of the row, from 0. segment: of the row, from 0. is_label: whether the loss
    asks for it. before, after: the text around it in its example.
    """

    at: int
    at_in_example: int
    segment: int
    role: str
    is_in_trained_segment: bool
    is_label: bool
    token: int
    text: str
    before: str
    after: str


@dataclass(frozen=True)
class Alike:
    """A row's likeness to another row, found by a filter that compares.

    likeness: from 0 to 1. twin: the row that it is like, whose collection may be no part of the dataset. mine, theirs:
    the texts of both as they were read, None where the store no longer holds one.
    """

    filter: str
    reason: str
    likeness: float
    twin: str
    collection: str
    file: str | None
    place: int
    mine: str | None
    theirs: str | None


@dataclass(frozen=True)
class Fate:
    """The fate of a row in one dataset; stage and reason: of a rejection, or why nothing is known."""

    dataset: str
    outcome: str
    stage: str | None = None
    reason: str | None = None
    draw: Draw | None = None
    making: Making | None = None
    standing: Standing | None = None
    token: TokenView | None = None
    alike: tuple[Alike, ...] = ()


@dataclass(frozen=True)
class Story:
    """One row: where it comes from and what became of it, dataset by dataset."""

    origin: Origin
    fates: tuple[Fate, ...]
