"""Generated reasoning tasks with answers, by the package reasoning-gym.

An item is made from a seed of its own, a hash of the collection's seed, the family and the item's index: the package
itself makes item i from seed + i, so its seeds 1 and 2 share nearly all questions. What an item depends on beside its
seed is kept in reasoning_gym_families.toml; families that are not the same in every process are refused there.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files as package_files
from io import StringIO
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, JsonValue, model_validator

from orca_recipes.contract.draws import draw_keys
from orca_recipes.contract.frames import completed, rejected_rows_schema, rows_schema
from orca_recipes.contract.kinds import Reading, Slice, Source, SourceFile
from orca_recipes.contract.spelling import hint, quoted
from orca_recipes.errors import PluginError, SourceError

# Items are generated, and have no size before: about what one takes, so that parts are as large as those of files.
_ITEM_BYTES = 1024
# Making an item costs up to tens of milliseconds, so the cost of a span follows its items, not its bytes.
_SPAN_ITEMS = 1000
_BATCH_ITEMS = 1000


class ReasoningGym(Source):
    """Tasks of reasoning-gym: the same number of items from each family.

        [collections.arithmetic]
        kind = "reasoning_gym"
        tasks = ["chain_sum", "basic_arithmetic"]
        rows_per_task = 1000
        seed = 1

        [collections.arithmetic.options.chain_sum]
        max_terms = 4

    Needs the extra `orca-recipes[reasoning-gym]`. Source: https://github.com/open-thought/reasoning-gym.
    """

    kind: Literal["reasoning_gym"] = "reasoning_gym"
    tasks: Annotated[tuple[str, ...], Field(min_length=1, description="families of tasks, as reasoning-gym names them")]
    rows_per_task: Annotated[int, Field(gt=0, description="items of each family")]
    seed: Annotated[int, Field(description="another seed gives other items of the same families")] = 0
    options: Annotated[
        Mapping[str, Mapping[str, JsonValue]],
        Field(description="options of reasoning-gym by family: how hard, how long"),
    ] = {}

    @model_validator(mode="after")
    def _families_can_be_trained_on(self) -> Self:
        if len(set(self.tasks)) != len(self.tasks):
            raise ValueError("tasks names a family twice")
        refused = _families()["refused"]
        for family in self.tasks:
            if family in refused:
                raise ValueError(f"reasoning-gym's {quoted(family)} cannot be used: {refused[family]}")
        for family, options in self.options.items():
            if family not in self.tasks:
                raise ValueError(f"options are given for {quoted(family)}, which is not in tasks")
            for name in ("seed", "size"):
                if name in options:
                    raise ValueError(f"options.{family}.{name} is set by this source; use seed and rows_per_task")
        return self

    def kept_columns(self) -> tuple[str, ...]:
        return ()

    def files(self) -> Sequence[SourceFile]:
        """Return None: everything is generated."""
        return []

    def pins(self) -> Mapping[str, str]:
        """Return versions of reasoning-gym and of what else writes items of these families.

        Raises: PluginError where reasoning-gym is not installed.
        """
        beside = _families()["written_with"]
        names = [name for name in sorted(beside) if set(beside[name]) & set(self.tasks)]
        try:
            return {name: version(name) for name in ["reasoning-gym", *names]}
        except PackageNotFoundError as error:
            raise _missing() from error

    def slices(self, *, slice_bytes: int) -> Sequence[Slice]:
        """Return spans of items, counted over all families in their order; an item's place is its number in that
        count."""
        span = min(max(1, slice_bytes // _ITEM_BYTES), _SPAN_ITEMS)
        items = self.declared_rows()
        return [
            Slice(file=None, start=start, stop=min(start + span, items), first_place=start + 1)
            for start in range(0, items, span)
        ]

    def read(self, *, slice: Slice) -> Iterator[Reading]:
        """Make the items of a span.

        Raises: SourceError for a family or an option that reasoning-gym does not have, PluginError where the package
            is not installed.
        """
        for start in range(slice.start, slice.stop, _BATCH_ITEMS):
            yield self._batch(start, min(start + _BATCH_ITEMS, slice.stop))

    def declared_rows(self) -> int:
        return len(self.tasks) * self.rows_per_task

    def declared_tasks(self) -> Mapping[str, int]:
        return dict.fromkeys(self.tasks, self.rows_per_task)

    def _batch(self, start: int, stop: int) -> Reading:
        import polars as pl

        made: list[tuple[int, str, str, str, list[str]]] = []
        rejected: list[tuple[int, str]] = []
        for number in range(start // self.rows_per_task, (stop - 1) // self.rows_per_task + 1):
            family, before = self.tasks[number], number * self.rows_per_task
            indices = range(max(start - before, 0), min(stop - before, self.rows_per_task))
            make = _maker(family, self.options.get(family, {}))
            # Items are made one at a time: that is the generator's interface, and its cost dwarfs the loop's.
            for index, seed in zip(indices, _item_seeds(family, self.seed, indices), strict=True):
                item = _item(make, seed)
                if isinstance(item, str):
                    rejected.append((before + index + 1, item))
                else:
                    made.append((before + index + 1, f"{family}/{index}", family, item[0], [item[1]]))
        schema = {name: rows_schema()[name] for name in ("place", "id", "task", "question", "references")}
        rows = pl.DataFrame(made, schema=schema, orient="row")
        return Reading(
            rows=completed(rows, rows_schema()),
            rejected=pl.DataFrame(rejected, schema=rejected_rows_schema(), orient="row"),
        )


def _families() -> dict[str, Any]:
    return tomllib.loads((package_files("orca_plugins.sources") / "reasoning_gym_families.toml").read_text("utf-8"))


def _missing() -> PluginError:
    return PluginError("source \"reasoning_gym\" needs an extra package: pip install 'orca-recipes[reasoning-gym]'")


def _item_seeds(family: str, seed: int, indices: range) -> Sequence[int]:
    """Draw seeds of 64 bits, no two of one family alike: draw_keys maps indices one to one."""
    index = np.arange(indices.start, indices.stop, dtype=np.uint64)
    keys = draw_keys(id_hi=np.zeros_like(index), id_lo=index, seed=seed, purpose=f"reasoning_gym {family}")
    return [int(key) for key in keys]


def _maker(family: str, options: Mapping[str, JsonValue]) -> Callable[[int], Mapping[str, Any]]:
    """Return a function that makes an item from its seed.

    Raises: SourceError where the family or an option is unknown or refused by the package.
    """
    create = _creator(family, options)
    if family not in _families()["slow_to_construct"]["families"]:
        return lambda seed: create(seed)[0]
    dataset = create(0)

    def reseeded(seed: int) -> Mapping[str, Any]:
        # Constructing these families takes long: one data set is given each item's seed.
        dataset.seed = dataset.config.seed = seed
        item: Mapping[str, Any] = dataset[0]
        return item

    return reseeded


def _creator(family: str, options: Mapping[str, JsonValue]) -> Callable[[int], Any]:
    try:
        from reasoning_gym.factory import DATASETS, create_dataset
    except ModuleNotFoundError as error:
        raise _missing() from error

    if family not in DATASETS:
        useful = set(DATASETS) - set(_families()["refused"])
        raise SourceError(f"reasoning-gym has no family {quoted(family)}{hint(family, useful)}")
    known = {field.name for field in dataclasses.fields(DATASETS[family][1])} - {"seed", "size"}
    for name in options:
        if name not in known:
            raise SourceError(f"reasoning-gym's {quoted(family)} has no option {quoted(name)}{hint(name, known)}")
    try:
        create_dataset(family, seed=0, size=1, **options)
    except (AssertionError, TypeError, ValueError) as error:
        raise SourceError(f"reasoning-gym's {quoted(family)} refuses its options: {error}") from error
    return lambda seed: create_dataset(family, seed=seed, size=1, **options)


def _item(make: Callable[[int], Mapping[str, Any]], seed: int) -> tuple[str, str] | str:
    """Return question and answer, or why there are none."""
    try:
        with redirect_stdout(StringIO()):  # some families print as they go
            item = make(seed)
    except Exception as error:  # whatever a family's code raises costs this item, not the build
        return f"the generator failed: {type(error).__name__}"
    question, answer = item.get("question"), item.get("answer")
    for name, text in (("question", question), ("answer", answer)):
        if not isinstance(text, str):
            return f"{name}: not a text"
        if not text.strip():
            return f"{name}: empty"
    return str(question), str(answer)
