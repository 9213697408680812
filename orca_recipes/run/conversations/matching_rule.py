"""The rule of an example: the first whose conditions it meets.

Conditions on words (task, category, language, reasoning, options) are looked at once for each combination that there
is, however many rows have it; questions are tokenized only where a rule that could still be the first counts tokens.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.conditions import EXTRA, chosen, parsed
from orca_recipes.contract.kinds import Strategy, Tokenizer
from orca_recipes.contract.messages import ends_with_answer, last_answer, last_question
from orca_recipes.recipe.rules import When
from orca_recipes.recipe.train_on import TrainOn
from orca_recipes.run.conversations.combinations import combinations
from orca_recipes.run.work.loaded_tokenizer import opened

if TYPE_CHECKING:
    import polars as pl

WORDS = ("task", "category", "language", "reasoning")
"""Conditions that are patterns of a column's words."""

UNMATCHED = -1

# As fnmatch and glob know them; a name without any is compared as it stands, which costs no pattern.
_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Message:
    """A system message: "set/id", its text, how often it is drawn."""

    name: str
    text: str
    weight: int = 1


@dataclass(frozen=True)
class BoundRule:
    """A rule with what it names."""

    when: When
    strategy_name: str
    strategy: Strategy
    messages: tuple[Message, ...]
    replace: bool
    is_expanded: bool = False
    train_on: TrainOn | None = None


def keeps_own_answer(asked: pl.DataFrame, rules: Sequence[BoundRule]) -> pl.Series:
    """Find the rows that keep their own answer, alone or at the end of their conversation: Boolean [rows].

    Args:
        asked: columns answer, messages, and rule (place in the rules).
    """
    keeping = [number for number, rule in enumerate(rules) if rule.strategy.keeps_own_words and not rule.replace]
    own = asked["answer"].is_not_null() | ends_with_answer(asked["messages"])
    return asked["rule"].is_in(keeping) & own


@dataclass(frozen=True)
class QuestionCounter:
    """Counts tokens of questions by the recipe's tokenizer, which `folder` holds."""

    tokenizer: Tokenizer
    folder: Path

    def tokens(self, examples: pl.DataFrame) -> np.ndarray:
        """Return int64 [examples]: tokens of the question, or of what users say in a conversation that a row brings."""
        import polars as pl
        import pyarrow as pa

        said = pl.element().struct
        users = pl.col("messages").list.eval(said.field("content").filter(said.field("role") == "user")).list.join("\n")
        texts = examples.select(text=pl.coalesce("question", users).fill_null(""))["text"]
        column = texts.rechunk().to_arrow().cast(pa.large_string())
        _, offsets = opened(self.tokenizer, self.folder).encode(texts=column, opens=True)
        return np.asarray(np.diff(offsets), dtype=np.int64)


def meets(when: When, values: Mapping[str, Any]) -> bool:
    """Tell whether an example with these words meets a rule's conditions on them. `options`: whether it has any."""
    for name in WORDS:
        globs, value = getattr(when, name), values.get(name)
        if globs and not (value is not None and any(fnmatch.fnmatchcase(value, glob) for glob in globs)):
            return False
    return when.options is None or when.options == values.get("options")


def fitting(globs: Iterable[str], words: Collection[str]) -> Iterator[str]:
    """Yield the words that some pattern fits; words: found by their text, as those of a set or a table are."""
    for glob in globs:
        if not _MAGIC.search(glob):
            yield from [glob] if glob in words else []
        else:
            yield from filter(re.compile(fnmatch.translate(glob)).match, words)


def first_matching(examples: pl.DataFrame, whens: Sequence[When], counter: QuestionCounter | None) -> np.ndarray:
    """Find the position of the first rule that matches each example, UNMATCHED if none does.

    Args:
        examples: columns of `frames.EXAMPLES`.
        counter: None only where no rule counts tokens.
    Returns: int64 [examples].
    """
    if not whens:
        return np.full(examples.height, UNMATCHED, dtype=np.int64)
    groups, words = _combinations(examples, whens)
    held = _Words(words)
    first = np.full(words.height, len(whens), dtype=np.int64)
    for rule in reversed(range(len(whens))):
        if not (whens[rule].counts_tokens or whens[rule].where is not None):
            first[held.where(whens[rule])] = rule
    found = first[groups]
    chosen = {rule: _chosen(examples, when) for rule, when in enumerate(whens) if when.where is not None}
    for rule in reversed([rule for rule in chosen if not whens[rule].counts_tokens]):
        found[chosen[rule] & held.holds(whens[rule])[groups] & (found > rule)] = rule
    counting = [rule for rule, when in enumerate(whens) if when.counts_tokens]
    could = [held.holds(whens[rule])[groups] & (found > rule) & chosen.get(rule, True) for rule in counting]
    rows = np.flatnonzero(np.any(could, axis=0)) if counting else np.empty(0, dtype=np.int64)
    if len(rows):
        assert counter is not None, "rules that count tokens have a counter"
        tokens = counter.tokens(examples[rows])
        for rule, open_to in reversed(list(zip(counting, could, strict=True))):
            found[rows[open_to[rows] & _within(whens[rule], tokens)]] = rule
    found[found == len(whens)] = UNMATCHED
    return np.asarray(found, dtype=np.int64)


def looked_at(whens: Sequence[When]) -> list[str]:
    """List the columns of examples that conditions read."""
    names = [name for name in WORDS if any(getattr(when, name) for when in whens)]
    names += ["options"] if any(when.options is not None for when in whens) else []
    names += ["question", "messages"] if any(when.counts_tokens for when in whens) else []
    chosen_by = [name for when in whens if when.where is not None for name in parsed(when.where).sorts()]
    names += ["messages"] if {"question", "answer"} & {*chosen_by} else []
    return list(dict.fromkeys([*names, *("extra" if name.startswith(EXTRA) else name for name in chosen_by)]))


def _chosen(examples: pl.DataFrame, when: When) -> np.ndarray:
    """Return bool [examples]: where what a rule asks of columns holds."""
    assert when.where is not None, "only rules that ask something of columns come here"
    choice = parsed(when.where)
    return np.asarray(chosen(choice, _with_words_of_chats(examples, choice.sorts())).to_numpy())


def _with_words_of_chats(examples: pl.DataFrame, names: Collection[str]) -> pl.DataFrame:
    """Fill in question and answer, where they are asked for, of examples that bring a conversation: what the user says
    last in it, and the answer that ends it."""
    import polars as pl

    said = {"question": last_question, "answer": _answer_at_end}
    wanted = [name for name in said if name in names]
    if not wanted or examples["messages"].null_count() == examples.height:
        return examples
    of_chats = {name: pl.lit(said[name](examples["messages"])) for name in wanted}
    return examples.with_columns(pl.coalesce(name, told).alias(name) for name, told in of_chats.items())


def _answer_at_end(messages: pl.Series) -> pl.Series:
    import polars as pl

    return pl.select(pl.when(ends_with_answer(messages)).then(last_answer(messages))).to_series()


def _combinations(examples: pl.DataFrame, whens: Sequence[When]) -> tuple[np.ndarray, pl.DataFrame]:
    """Number the distinct combinations of words of examples, over columns that rules read; return each example's
    number, and the combinations."""
    import polars as pl

    columns = [pl.col(name) for name in WORDS if any(getattr(when, name) for when in whens)]
    if any(when.options is not None for when in whens):
        columns.append((pl.col("options").list.len().fill_null(0) > 0).alias("options"))
    words = examples.select(columns)
    groups, firsts = combinations(words.get_columns(), examples.height)
    return groups, words[firsts] if columns else pl.DataFrame({"none": firsts})


class _Words:
    """Combinations of words, and the places of each word in them: a rule for one of thousands of tasks looks at that
    task alone."""

    def __init__(self, words: pl.DataFrame) -> None:
        self._words = words
        self._places: dict[str, Mapping[str, np.ndarray]] = {}

    def holds(self, when: When) -> np.ndarray:
        """Return bool [combinations]: where a rule's conditions on words hold."""
        holds = np.zeros(self._words.height, dtype=bool)
        holds[self.where(when)] = True
        return holds

    def where(self, when: When) -> np.ndarray:
        """Return int64: the combinations in which a rule's conditions on words hold."""
        parts = [self._fitting(name, getattr(when, name)) for name in WORDS if getattr(when, name)]
        if when.options is not None:
            parts.append(np.flatnonzero(self._words["options"].to_numpy() == when.options))
        if not parts:
            return np.arange(self._words.height)
        found, *others = parts
        for other in others:
            found = np.intersect1d(found, other)
        return found

    def _fitting(self, name: str, globs: Sequence[str]) -> np.ndarray:
        places = self._of_words(name)
        known = {word: places[word] for word in fitting(globs, places)}
        return np.concatenate(list(known.values())) if known else np.empty(0, dtype=np.int64)

    def _of_words(self, name: str) -> Mapping[str, np.ndarray]:
        if name not in self._places:
            column = self._words[name].to_list()
            found: dict[str, list[int]] = {}
            for place, word in enumerate(column):
                if word is not None:
                    found.setdefault(word, []).append(place)
            self._places[name] = {word: np.array(places, dtype=np.int64) for word, places in found.items()}
        return self._places[name]


def _within(when: When, tokens: np.ndarray) -> np.ndarray:
    most = np.iinfo(np.int64).max if when.max_tokens is None else when.max_tokens
    return np.asarray((tokens >= (when.min_tokens or 0)) & (tokens <= most))
