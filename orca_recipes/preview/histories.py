"""Numbers of examples and tokens from the same conversations, under each history of a chat template.

A template that prints earlier turns otherwise than they were trained makes an example of each turn: a plan shows it on
the first rows of each collection, beside what the other histories would give, before a build finds a limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np

from orca_recipes.contract.markup import Markup
from orca_recipes.contract.rendering import History
from orca_recipes.errors import TemplateError
from orca_recipes.plan.used_parts import taken_collections
from orca_recipes.preview.first_rows import first_conversations
from orca_recipes.run.renderers.last_exchange import trained_as
from orca_recipes.run.renderers.student_renderer import StudentRenderer
from orca_recipes.run.tokens.expansion import Expansion
from orca_recipes.run.work.bench import Bench
from orca_recipes.run.work.loaded_tokenizer import opened
from orca_recipes.run.work.student import TOKENIZER_FILES
from orca_recipes.store.narrow_tables import whole
from orca_recipes.text_table import in_columns

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class HistoryView:
    """The first conversations that a dataset takes of a collection, under one history of the template.

    conversations: how many gave examples, of `tried`. tokens: of them, each read once; example_tokens: of all their
    examples. chosen: whether the recipe says this history.
    """

    dataset: str
    collection: str
    history: str
    chosen: bool
    tried: int
    conversations: int
    tokens: int
    examples: int
    example_tokens: int


def histories(bench: Bench) -> tuple[HistoryView, ...]:
    """Count examples and tokens of the collections with rows at hand, if the template renders turn by turn."""
    if bench.student.markup.rendering is None or "history" not in type(bench.recipe.template).model_fields:
        return ()
    places = [(name, found) for name in bench.recipe.datasets for found in taken_collections(bench.recipe, name)]
    finished = bench.store.finished(bench.plan)
    frames = {place: first_conversations(bench, finished, *place) for place in places}
    held = {place: frame for place, frame in frames.items() if frame is not None and frame.height}
    if not held:
        return ()
    markups = dict(_markups(bench))
    return tuple(view for place, frame in held.items() for view in _views(bench, place, frame, markups))


def history_table(views: tuple[HistoryView, ...]) -> str:
    """Lay out the collections with a conversation that becomes several examples under some history; "" where none
    has."""
    grown = {(view.dataset, view.collection) for view in views if view.examples > view.conversations}
    lines: list[tuple[str, ...]] = [
        ("dataset", "collection", "history", "first rows", "examples a row", "tokens a row", "of examples", "times")
    ]
    for view in views:
        if (view.dataset, view.collection) in grown and view.conversations:
            means = (number / view.conversations for number in (view.examples, view.tokens, view.example_tokens))
            examples, tokens, of_examples = means
            chosen = f"{view.history} (chosen)" if view.chosen else view.history
            told = (f"{examples:.1f}", f"{tokens:,.0f}", f"{of_examples:,.0f}", f"{of_examples / tokens:.1f}")
            lines.append((view.dataset, view.collection, chosen, f"{view.conversations:,}", *told))
    return "\n".join(in_columns(lines)) if len(lines) > 1 else ""


def _markups(bench: Bench) -> Iterator[tuple[str, Markup]]:
    """Yield the template's markup under each history it can have."""
    template, student = bench.recipe.template, bench.student
    vocabulary = opened(bench.recipe.tokenizer, student.folder).vocabulary
    chosen = student.markup.rendering.history if student.markup.rendering is not None else ""
    for history in get_args(History):
        if history == chosen:
            yield history, student.markup
            continue
        try:
            yield history, template.model_copy(update={"history": history}).markup(vocabulary=vocabulary)
        except TemplateError:
            continue  # no change of a condition keeps its history


def _views(
    bench: Bench, place: tuple[str, str], frame: pl.DataFrame, markups: dict[str, Markup]
) -> Iterator[HistoryView]:
    dataset, collection = place
    conversations, train_on = whole(frame.to_arrow()), bench.recipe.datasets[dataset].train_on
    if train_on is not None:
        conversations = trained_as(conversations, train_on)
    encoder = opened(bench.recipe.tokenizer, bench.student.folder)
    assert bench.student.markup.rendering is not None
    for history, markup in markups.items():
        student = StudentRenderer(markup, encoder, bench.student.folder / TOKENIZER_FILES[0])
        check = np.zeros(frame.height, dtype=np.bool_)
        made = student.render(conversations, check=check, exact=False, of=frame.height, tried=False)
        counts = Expansion.of(made).counts()
        chosen = history == bench.student.markup.rendering.history
        yield HistoryView(dataset, collection, history, chosen, frame.height, **counts)
