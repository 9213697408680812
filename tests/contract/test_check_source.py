"""The check of sources that the contract offers to plugin authors: it tells of the promise that is broken."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Literal

import polars as pl
import pytest

from orca_recipes.contract.frames import extra_type
from orca_recipes.contract.kinds import Reading, Slice, Source, SourceFile
from orca_recipes.contract.testing import check_source


class Numbers(Source):
    """The numbers from 1 to 100.

    [collections.numbers]
    kind = "numbers"
    """

    kind: Literal["numbers"] = "numbers"

    def files(self) -> list[SourceFile]:
        return []

    def slices(self, *, slice_bytes: int) -> list[Slice]:
        span = max(1, slice_bytes // 1024)
        return [Slice(None, start, min(start + span, 100), start + 1) for start in range(0, 100, span)]

    def read(self, *, slice: Slice) -> Iterator[Reading]:
        places = range(slice.start + 1, slice.stop + 1)
        rejected = pl.DataFrame(schema={"place": pl.Int64, "reason": pl.String})
        yield Reading(rows=self.numbered(slice, places), rejected=rejected)

    def numbered(self, slice: Slice, places: range) -> pl.DataFrame:
        return pl.DataFrame({"place": places, "question": [str(place) for place in places]}, schema_overrides=PLACED)


PLACED = {"place": pl.Int64}


class FromOne(Numbers):
    __doc__ = Numbers.__doc__

    def numbered(self, slice: Slice, places: range) -> pl.DataFrame:
        return super().numbered(slice, places).with_columns(place=pl.int_range(1, pl.len() + 1))


class BySlice(Numbers):
    __doc__ = Numbers.__doc__

    def numbered(self, slice: Slice, places: range) -> pl.DataFrame:
        return super().numbered(slice, places).with_columns(question=pl.lit(str(slice.start)))


class Extra(Numbers):
    __doc__ = Numbers.__doc__

    def numbered(self, slice: Slice, places: range) -> pl.DataFrame:
        return super().numbered(slice, places).with_columns(answr=pl.lit("x"))


class Typed(Numbers):
    __doc__ = Numbers.__doc__

    def numbered(self, slice: Slice, places: range) -> pl.DataFrame:
        return super().numbered(slice, places).with_columns(question=pl.col("place"))


class Backwards(Numbers):
    __doc__ = Numbers.__doc__

    def numbered(self, slice: Slice, places: range) -> pl.DataFrame:
        return super().numbered(slice, places).reverse()


class Random(Numbers):
    __doc__ = Numbers.__doc__
    times: ClassVar[Iterator[int]] = iter(range(1000))

    def numbered(self, slice: Slice, places: range) -> pl.DataFrame:
        return super().numbered(slice, places).with_columns(question=pl.lit(str(next(self.times))))


class Boastful(Numbers):
    __doc__ = Numbers.__doc__

    def declared_rows(self) -> int:
        return 1000


class Secretive(Numbers):
    __doc__ = Numbers.__doc__

    def kept_columns(self) -> list[str]:
        return ["score"]

    def numbered(self, slice: Slice, places: range) -> pl.DataFrame:
        kept = pl.lit([{"name": "scor", "value": "1"}], dtype=extra_type())
        return super().numbered(slice, places).with_columns(extra=kept)


class Silent(Numbers):
    __doc__ = Numbers.__doc__

    def slices(self, *, slice_bytes: int) -> list[Slice]:
        return []


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (FromOne(), "a place of before its first_place"),
        (BySlice(), "bytes give other rows or places"),
        (Extra(), "a column 'answr', which the contract does not know"),
        (Typed(), "column 'question' of the rows is Int64, the contract says String"),
        (Backwards(), "rows do not come in order of place"),
        (Random(), "reading twice gives other rows"),
        (Boastful(), "declared_rows says 1000, but 100 rows"),
        (Secretive(), r"rows keep columns \['scor'\], and kept_columns names \['score'\]"),
        (Silent(), "the source read no row at all"),
    ],
)
def test_a_source_that_breaks_a_promise_is_told_which(source: Source, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_source(source, tmp_path)


HASHED = '''
from orca_recipes.contract.kinds import Source
import polars as pl
from collections.abc import Iterator
from typing import Literal
from orca_recipes.contract.kinds import Reading, Slice

class Hashed(Source):
    """Rows that depend on PYTHONHASHSEED.

        [collections.x]
        kind = "hashed"
    """

    kind: Literal["hashed"] = "hashed"

    def files(self): return []

    def slices(self, *, slice_bytes): return [Slice(None, 0, 1)]

    def read(self, *, slice):
        question = str(hash("question"))
        none = pl.DataFrame(schema={"place": pl.Int64, "reason": pl.String})
        yield Reading(rows=pl.DataFrame({"place": [1], "question": [question]}), rejected=none)
'''


def test_a_source_that_depends_on_the_process_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hashed_source.py").write_text(HASHED)
    monkeypatch.syspath_prepend(tmp_path)
    source: Any = importlib.import_module("hashed_source").Hashed()
    with pytest.raises(AssertionError, match="with another PYTHONHASHSEED, reads other rows"):
        check_source(source, tmp_path)


def test_a_source_that_other_processes_cannot_import_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = ModuleType("nowhere")
    monkeypatch.setitem(sys.modules, "nowhere", nowhere)
    exec(HASHED, nowhere.__dict__)
    with pytest.raises(AssertionError, match="another process, as engines use them, cannot read the source"):
        check_source(nowhere.Hashed(), tmp_path)
