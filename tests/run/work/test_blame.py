"""Kinds of strangers that break the contract: each is named, with what it did, and loses no row in silence."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest

from orca_plugins.packers.best_fit import BestFit
from orca_recipes.catalogue import Catalogue
from orca_recipes.cli.plugin_at_fault import plugin_at_fault
from orca_recipes.contract.hooks import Offers, hookimpl
from orca_recipes.contract.kinds import Filter, Packer, Packing, Slice, Source, Strategy, Teacher
from orca_recipes.errors import PluginError
from orca_recipes.progress import Progress
from orca_recipes.run.build import build
from orca_recipes.run.work.blame import of_kind
from tests.run.small import STUDENT, SUMS, asked, sums, write_rows


class Unsound(Filter):
    """Return what the contract does not allow.

    [[datasets.main.filters]]
    kind = "unsound"
    """

    kind: Literal["unsound"] = "unsound"
    gives: str = "list"

    def reasons(self, *, conversations: pl.DataFrame) -> Any:
        return {"list": ["loud"], "numbers": pl.Series([1] * conversations.height), "few": pl.Series(["loud"])}[
            self.gives
        ]


class Loses(Packer):
    """Place the first example alone."""

    kind: Literal["loses"] = "loses"
    gives: str = "one"

    def pack(self, *, lengths: np.ndarray, keys: np.ndarray, row_tokens: int) -> Packing:
        one, every = np.array([0]), np.arange(len(lengths))
        return {
            "one": Packing(order=one, row_starts=np.array([0, 1])),
            "far": Packing(order=every, row_starts=np.array([0, len(every)])),
            "gap": Packing(order=every, row_starts=np.array([1, len(every)])),
        }[self.gives]


class Asks(Strategy):
    """Ask a single request, whatever the number of examples."""

    kind: Literal["asks"] = "asks"
    gives: str = "text"

    def ask(self, *, examples: pl.DataFrame) -> pl.Series:
        request = [{"role": "user", "content": "one", "trained": False}]
        return pl.Series(["one"]) if self.gives == "text" else pl.Series([request])

    def teach(self, *, examples: pl.DataFrame, answers: pl.Series) -> pl.Series:
        return pl.Series(["one"])


class Silent(Teacher):
    """Answer nothing."""

    kind: Literal["silent"] = "silent"

    def answer(self, *, examples: pl.DataFrame, requests: pl.Series, seed: int) -> pl.DataFrame:
        return pl.DataFrame({"answer": ["one"]})


class Hoards(Silent):
    """Look into a collection, and answer nothing either."""

    kind: Literal["hoards"] = "hoards"  # type: ignore[assignment]

    def collections(self) -> tuple[str, ...]:
        return ("sums",)

    def prepare(self, *, examples: Iterator[pl.DataFrame], folder: Path) -> dict[str, int]:
        return {"rows": sum(frame.height for frame in examples)}


class Reads(Source):
    """Read texts in place of readings."""

    kind: Literal["reads"] = "reads"

    def files(self) -> list[Any]:
        return []

    def slices(self, *, slice_bytes: int) -> list[Slice]:
        return [Slice(None, 0, 1)]

    def read(self, *, slice: Slice) -> Iterator[Any]:
        yield "a row"


class Kinds:
    @hookimpl
    def orca_filters(self) -> Offers:
        return {"unsound": f"{__name__}:Unsound"}

    @hookimpl
    def orca_packers(self) -> Offers:
        return {"loses": f"{__name__}:Loses"}

    @hookimpl
    def orca_strategies(self) -> Offers:
        return {"asks": f"{__name__}:Asks"}

    @hookimpl
    def orca_teachers(self) -> Offers:
        return {"silent": f"{__name__}:Silent", "hoards": f"{__name__}:Hoards"}

    @hookimpl
    def orca_sources(self) -> Offers:
        return {"reads": f"{__name__}:Reads"}


FILTERED = '\n[datasets.main]\nmixture = "main"\n\n[[datasets.main.filters]]\nkind = "unsound"\ngives = "{}"\n'
PACKED = 'kind = "loses"\ngives = "{}"\nrow_tokens = 128'
ASKED = '\n[teachers.mine]\nkind = "silent"\n\n[datasets.main]\nmixture = "main"\nteacher = "mine"\n'


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (SUMS + STUDENT + FILTERED.format("list"), r"filter \"unsound\" .* must return a pl.Series of 9 .* a list"),
        (SUMS + STUDENT + FILTERED.format("few"), r"returns one of 1 value of type String"),
        (SUMS + STUDENT + FILTERED.format("numbers"), r"returns one of 9 values of type Int64"),
        (SUMS + STUDENT.replace("row_tokens = 128", PACKED.format("one")), "does not place each of 9 examples once"),
        (SUMS + STUDENT.replace("row_tokens = 128", PACKED.format("far")), "a row with more than 128 tokens"),
        (SUMS + STUDENT.replace("row_tokens = 128", PACKED.format("gap")), "rows that do not follow each other"),
        (SUMS + STUDENT + '\n[strategies.asks]\nkind = "asks"\n[[rules]]\nstrategy = "asks"\n', 'strategy "asks"'),
        (
            SUMS + STUDENT + '\n[strategies.asks]\nkind = "asks"\ngives = "one"\n[[rules]]\nstrategy = "asks"\n',
            r'strategy "asks" .* 1 requests for 9 examples',
        ),
        (SUMS + STUDENT + ASKED, r"teacher \"silent\" of .* answers 9 examples by 1 row of answer"),
        (SUMS + STUDENT + ASKED.replace("silent", "hoards"), r"teacher \"hoards\" of .* 9 examples by 1 row of answer"),
        (
            SUMS.partition("[collections")[0] + '[collections.sums]\nkind = "reads"\n' + STUDENT,
            r"collections.sums: source \"reads\" of .* reads a str",
        ),
    ],
)
def test_a_kind_that_breaks_the_contract_is_named_with_what_it_did(tmp_path: Path, recipe: str, said: str):
    write_rows(tmp_path / "sums.jsonl", sums(9))
    (tmp_path / "small.toml").write_text(recipe)
    with pytest.raises(PluginError, match=said) as caught:
        build(asked(tmp_path / "small.toml", catalogue=Catalogue(plugins=[Kinds()])), Progress())
    assert "tell its author" in str(caught.value)


def test_an_error_of_a_strangers_kind_is_told_by_its_name_and_one_of_ours_stays():
    with (
        pytest.raises(PluginError, match=r'packer "loses" .*\(ZeroDivisionError: division by zero\)'),
        of_kind(Loses()),
    ):
        raise ZeroDivisionError("division by zero")
    with pytest.raises(ZeroDivisionError), of_kind(BestFit()):
        raise ZeroDivisionError("division by zero")
    with pytest.raises(OSError, match="full"), of_kind(Loses()):
        raise OSError("full")


def test_a_plugin_is_found_by_the_lines_that_an_error_came_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "noisy").mkdir()
    (tmp_path / "noisy" / "__init__.py").write_text("\n\ndef fail():\n    return 1 / 0\n")
    facts = tmp_path / "noisy-0.2.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: noisy\nVersion: 0.2\n")
    (facts / "entry_points.txt").write_text("[orca_recipes]\nnoisy = noisy\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import noisy  # type: ignore[import-not-found]

    with pytest.raises(ZeroDivisionError) as caught:
        noisy.fail()
    assert plugin_at_fault(caught.value) == "noisy 0.2 (noisy/__init__.py:4)"
    assert plugin_at_fault(ValueError("ours")) is None
