"""Workers get ready while the main process pins: what takes them a second each then costs no time.

Only a build that is large enough to be worth workers starts them early. The template is then tried by one of them: each
has to load the tokenizer, and the main process need not. Beyond that what is done here decides nothing: a worker that
was never warmed imports and loads with its first part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from orca_recipes.contract.kinds import Engine, Result, Task, Tokenizer
from orca_recipes.errors import Failure, UserError
from orca_recipes.run.work.background import Aside
from orca_recipes.run.work.blame import placed
from orca_recipes.run.work.limited import Bounded, Limits, raise_told
from orca_recipes.run.work.loaded_tokenizer import opened
from orca_recipes.store.arrow_files import keep_pandas_out

if TYPE_CHECKING:
    from orca_recipes.recipe.model import Recipe

SLICE_BYTES = 16 << 20
"""Input of one unit of reading, about."""

TASKS_WORTH_WORKERS = 8
"""Fewer tasks than this are done in the main process: starting a worker takes as long as they do."""

BYTES_WORTH_WORKERS = 64 << 20
"""Input from which on workers are started at once."""


@dataclass(frozen=True)
class Loading:
    """A tokenizer of the store to load."""

    tokenizer: Tokenizer
    folder: Path


class Work(Protocol):
    """A place for work that any process can do: this process, a limited one, or an engine's workers."""

    def do(self, function: Callable[[Task], Result], task: Task, *, what: str, failure: type[UserError]) -> Result:
        """Run the function on the task; what: the culprit named in a failure.

        Raises: what it raises; failure, where the work is done in a process that fails.
        """

    def rest(self) -> None:
        """Release the memory of loading, once a plan has all it needs."""

    def expect(self, tokenizer: Tokenizer, folder: Path) -> None:
        """Prepare for parts with this tokenizer, which is in the store now."""


class _Here:
    """The calling process; it loads what a part needs when it comes."""

    def do(self, function: Callable[[Task], Result], task: Task, *, what: str, failure: type[UserError]) -> Result:
        return function(task)

    def rest(self) -> None:
        pass

    def expect(self, tokenizer: Tokenizer, folder: Path) -> None:
        pass


HERE: Work = _Here()


@dataclass(frozen=True)
class Workers:
    """The workers of an engine, which begin to get ready at once; what they load first is held to limits."""

    engine: Engine
    number: int
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        self.engine.warm(function=import_libraries, task=None, workers=self.number)
        Aside(partial(import_libraries, None))  # or this process imports them while all workers wait for it

    def do(self, function: Callable[[Task], Result], task: Task, *, what: str, failure: type[UserError]) -> Result:
        try:
            pairs = self.engine.map(function=Bounded(function, self.limits), tasks=[task], workers=self.number)
            results: list[Result] = [result for _, result in pairs]
        except Failure as end:
            killed = re.search(r"\((SIG[A-Z]+)\)", str(end))
            if killed is None:
                raise
            raise failure(self.limits.exceeded(what, killed[1])) from end
        except Exception as error:
            raise_told(error, what, failure, self.limits)
        return results[0]

    def rest(self) -> None:
        pass

    def expect(self, tokenizer: Tokenizer, folder: Path) -> None:
        self.engine.warm(function=load_tokenizer, task=Loading(tokenizer, folder), workers=self.number)


def is_worth_workers(recipe: Recipe, collections: Sequence[str]) -> bool:
    """Tell whether the files of these collections are large enough for workers."""
    found = 0
    for name in collections:
        with placed(f"collections.{name}"):
            found += sum(_size(file.path) for file in recipe.collections[name].files())
    return found >= BYTES_WORTH_WORKERS


def import_libraries(_: None) -> None:
    """Import what every part needs."""
    import polars

    # An expression once: polars readies its engine with the first.
    polars.select(polars.lit(1))
    keep_pandas_out()


def load_tokenizer(task: Loading) -> None:
    """Load a tokenizer, and have the fast one checked against the reference."""
    opened(task.tokenizer, task.folder).verdict()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # who reads it tells
