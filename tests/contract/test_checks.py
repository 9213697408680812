"""The checks that the contract offers to plugin authors: each tells of the promise that is broken."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import polars as pl
import pytest
from pydantic import Field

from orca_plugins.packers.one_per_row import OnePerRow
from orca_plugins.strategies.direct import Direct
from orca_recipes.contract.docstring import parted
from orca_recipes.contract.kinds import (
    Filter,
    Kind,
    Packer,
    Packing,
    Place,
    Strategy,
)
from orca_recipes.contract.testing import check_filter, check_kind, check_packer, check_strategy
from orca_recipes.errors import OverlongExample


def test_an_example_is_found_wherever_it_stands_in_a_docstring() -> None:
    alone = 'First line.\n\n        [table]\n        a = 1\n\n        [table.b]\n        c = "d"\n    '
    amid = "First line.\n\n        [table]\n        a = 1\n\n    More words: see a = b.\n    "
    assert parted(alone) == ("First line.", '[table]\na = 1\n\n[table.b]\nc = "d"')
    assert parted(amid) == ("First line.\n\nMore words: see a = b.", "[table]\na = 1")
    assert parted("Only words.") == ("Only words.", "")
    assert parted(None) == ("", "")


class Good(Filter):
    """Keeps everything.

    filters = [{ kind = "good", path = "x" }]
    """

    kind: Literal["good"] = "good"
    path: Annotated[Place | None, Field(description="where")] = None

    def reasons(self, *, conversations: pl.DataFrame) -> pl.Series:
        return pl.Series([None] * len(conversations), dtype=pl.String)


class Undescribed(Good):
    """As good.

    filters = ["x", { kind = "good" }]
    """

    option: int = 1


class Placed(Good):
    """As good.

    filters = [{ kind = "good" }]
    """

    path: Annotated[Path | None, Field(description="where")] = None


class Wordless(Good):
    """No example here."""


class Mistaken(Good):
    """As good.

    filters = [{ kind = "good", pth = "x" }]
    """


class Thawed(Good):
    """As good.

    filters = [{ kind = "good" }]
    """

    model_config = {"frozen": False}


class Unstable(Good):
    """As good.

    filters = [{ kind = "good" }]
    """

    times: ClassVar[Iterator[int]] = iter(range(100))

    def identity(self) -> dict[str, Any]:
        return {"times": next(self.times)}


class Unpicklable(Good):
    """As good.

    filters = [{ kind = "good" }]
    """

    def __reduce__(self) -> Any:
        raise TypeError("holds something open")


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Undescribed(), "option 'option' of Undescribed has no description"),
        (Placed(path=Path("x")), "option 'path' is a path and part of identity"),
        (Wordless(), "the docstring of Wordless has no TOML example"),
        (Mistaken(), "the TOML in the docstring of Mistaken does not hold"),
        (Thawed(), "loosens its model_config"),
        (Unstable(), "identity.. differs"),
        (Unpicklable(), "cannot be pickled, so no worker can use it: holds something open"),
    ],
)
def test_a_kind_that_breaks_a_promise_is_told_which(kind: Kind, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_kind(kind)


def test_a_place_may_differ_and_the_kind_is_still_good() -> None:
    check_filter(Good(path=Path("somewhere")))


class ByPosition(Good):
    """As good.

    filters = [{ kind = "good" }]
    """

    def reasons(self, *, conversations: pl.DataFrame) -> pl.Series:
        return conversations.select(pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.lit("odd"))).to_series()


class ByCompany(Good):
    """As good.

    filters = [{ kind = "good" }]
    """

    def reasons(self, *, conversations: pl.DataFrame) -> pl.Series:
        many = conversations["place"].n_unique() > 6
        return pl.Series(["crowded" if many else None] * len(conversations), dtype=pl.String)


class Speechless(Good):
    """As good.

    filters = [{ kind = "good" }]
    """

    def reasons(self, *, conversations: pl.DataFrame) -> pl.Series:
        return pl.Series([" "] * len(conversations), dtype=pl.String)


class FailsOnNothing(Good):
    """As good.

    filters = [{ kind = "good" }]
    """

    def reasons(self, *, conversations: pl.DataFrame) -> pl.Series:
        return pl.Series([None] * len(conversations), dtype=pl.String if len(conversations) else pl.Null)


class Flags(Good):
    """As good.

    filters = [{ kind = "good" }]
    """

    def reasons(self, *, conversations: pl.DataFrame) -> pl.Series:
        return pl.Series([True] * len(conversations))


@pytest.mark.parametrize(
    ("filter", "sentence"),
    [
        (ByPosition(), "reasons depends on the order of rows"),
        (ByCompany(), "reasons depends on which rows come together"),
        (Speechless(), "a reason is empty"),
        (FailsOnNothing(), "reasons must return String for no rows"),
        (Flags(), "reasons returns Boolean, the contract says String"),
    ],
)
def test_a_filter_that_breaks_a_promise_is_told_which(filter: Filter, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_filter(filter)


class TrainsTheUser(Direct):
    """As direct.

    [strategies.x]
    kind = "direct"
    """

    def teach(self, *, examples: pl.DataFrame, answers: pl.Series) -> pl.Series:
        everything = pl.element().struct.with_fields(trained=pl.lit(value=True))
        return super().teach(examples=examples, answers=answers).list.eval(everything)


class TrainsNothing(Direct):
    """As direct.

    [strategies.x]
    kind = "direct"
    """

    def teach(self, *, examples: pl.DataFrame, answers: pl.Series) -> pl.Series:
        return self.ask(examples=examples)


class AsksByTask(Direct):
    """As direct.

    [strategies.x]
    kind = "direct"
    """

    def ask(self, *, examples: pl.DataFrame) -> pl.Series:
        return super().ask(examples=examples.with_columns(pl.concat_str("question", "task").alias("question")))


class AsksByLanguage(AsksByTask):
    """As direct.

    [strategies.x]
    kind = "direct"
    """

    def columns(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("language",)


class AsksByWhatItLikes(AsksByTask):
    """As direct.

    [strategies.x]
    kind = "direct"
    """

    def columns(self) -> None:  # type: ignore[override]
        return None


def test_a_strategy_that_does_not_say_its_columns_may_ask_with_any() -> None:
    check_strategy(AsksByWhatItLikes())


@pytest.mark.parametrize(
    ("strategy", "sentence"),
    [
        (AsksByTask(), "ask looks at columns that .* does not name; it names "),
        (AsksByLanguage(), r"it names \['language'\], and rows that differ in others would be dropped as duplicates"),
        (TrainsTheUser(), "only an assistant's are answers"),
        (TrainsNothing(), "teach marks nothing as trained"),
    ],
)
def test_a_strategy_that_breaks_a_promise_is_told_which(strategy: Strategy, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_strategy(strategy)


class Overfull(OnePerRow):
    """As one_per_row.

    [packing]
    kind = "one_per_row"
    """

    def pack(self, *, lengths: np.ndarray, keys: np.ndarray, row_tokens: int) -> Packing:
        starts = np.array([0, len(lengths)] if len(lengths) else [0], np.int64)
        return Packing(order=np.argsort(keys).astype(np.int64), row_starts=starts)


class Forgetful(OnePerRow):
    """As one_per_row.

    [packing]
    kind = "one_per_row"
    """

    def pack(self, *, lengths: np.ndarray, keys: np.ndarray, row_tokens: int) -> Packing:
        return super().pack(lengths=lengths[:1], keys=keys[:1], row_tokens=row_tokens)


class FirstCome(OnePerRow):
    """As one_per_row.

    [packing]
    kind = "one_per_row"
    """

    def pack(self, *, lengths: np.ndarray, keys: np.ndarray, row_tokens: int) -> Packing:
        if len(lengths) and lengths.max() > row_tokens:
            raise OverlongExample("too long")
        every = np.arange(len(lengths) + 1, dtype=np.int64)
        return Packing(order=every[:-1], row_starts=every)


class Swallows(FirstCome):
    """As one_per_row.

    [packing]
    kind = "one_per_row"
    """

    def pack(self, *, lengths: np.ndarray, keys: np.ndarray, row_tokens: int) -> Packing:
        every = np.arange(len(lengths) + 1, dtype=np.int64)
        return Packing(order=np.argsort(keys).astype(np.int64), row_starts=every)


@pytest.mark.parametrize(
    ("packer", "sentence"),
    [
        (Overfull(row_tokens=64), "a row holds more than 64 tokens"),
        (Forgetful(), "an example is lost or stands in two places"),
        (FirstCome(), "other rows if examples come shuffled"),
        (Swallows(), "must raise OverlongExample"),
    ],
)
def test_a_packer_that_breaks_a_promise_is_told_which(packer: Packer, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_packer(packer)
