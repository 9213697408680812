"""Hold the kinds of an installed package to the contract, and show the smallest input that breaks it.

A kind is tried as its docstring's examples make it: those are what its author says that it can do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

from orca_recipes.catalogue import Catalogue
from orca_recipes.contract.checks.promises import example_kinds
from orca_recipes.contract.kind import Kind, is_place
from orca_recipes.contract.pieces import PIECES, Offer
from orca_recipes.contract.spelling import hint, quoted
from orca_recipes.errors import OrcaError, PluginError

if TYPE_CHECKING:
    import polars as pl

Check = Callable[[Any, Path], None]
# So many that the fixed cost of one call hardly counts.
_ROWS_TIMED = 2000


@dataclass(frozen=True)
class Broken:
    """A promise that a kind breaks: the sentence of the check, and the smallest input on which it fails."""

    check: str
    input: Any

    def as_json(self) -> dict[str, Any]:
        return {"check": self.check, "input": self.input}


@dataclass
class Tested:
    """One kind; untried: why examples of it could not be tried here. microseconds_a_row: that it takes, where it is
    asked by rows."""

    hook: str
    name: str
    failures: list[Broken] = field(default_factory=list)
    untried: list[str] = field(default_factory=list)
    microseconds_a_row: float | None = None

    @property
    def is_sound(self) -> bool | None:
        """Tell whether it keeps its promises; None where no failure was found and not all was tried."""
        return False if self.failures else None if self.untried else True

    def as_json(self) -> dict[str, Any]:
        failures = [found.as_json() for found in self.failures]
        told = {"hook": self.hook, "name": self.name, "sound": self.is_sound, "failures": failures}
        return told | {"untried": self.untried, "microseconds_a_row": self.microseconds_a_row}


def tested(distribution: str, catalogue: Catalogue, base: Path) -> list[Tested]:
    """Try every kind that a distribution offers.

    Args:
        base: where the places in examples of docstrings begin.
    Raises: PluginError where no such distribution offers a kind, with its fault where it does not load.
    """
    everything = [offer for piece in PIECES for offer in catalogue.offers(piece.hook)]
    offers = [offer for offer in everything if _same(offer.distribution, distribution)]
    faults = [str(plugin) for plugin in catalogue.broken if _same(plugin.distribution, distribution)]
    if faults:
        raise PluginError("\n".join(faults))
    if not offers:
        known = sorted({offer.distribution for offer in everything})
        raise PluginError(
            f"no installed package {quoted(distribution)} offers a kind{hint(distribution, known)}; "
            "pip install it first, and look at its entry point in the group orca_recipes"
        )
    return [_tested(offer, catalogue, base) for offer in offers]


def _same(one: str, other: str) -> bool:
    # As pip compares names of packages (PEP 503).
    return one.lower().replace("_", "-").replace(".", "-") == other.lower().replace("_", "-").replace(".", "-")


def _tested(offer: Offer, catalogue: Catalogue, base: Path) -> Tested:
    found = Tested(offer.hook.removeprefix("orca_"), offer.name)
    try:
        cls = catalogue.kind(offer.hook, f"{offer.distribution}:{offer.name}")
        examples = example_kinds(cls, base)
    except (PluginError, AssertionError) as fault:
        found.failures.append(Broken(str(fault), {"kind": offer.name}))
        return found
    if not examples:
        said = f'the docstring of {cls.__name__} has no TOML example with kind = "{offer.name}", so it cannot be tried'
        found.failures.append(Broken(said, {"kind": offer.name}))
    for kind in examples:
        missing = next(_missing(kind), None)
        if missing is not None:
            found.untried.append(f"its example names {missing}, which is not here; run this where it is")
            continue
        failure = _failure(found.hook, kind)
        if failure is not None:
            found.failures.append(failure)
        else:
            found.microseconds_a_row = _speed(found.hook, kind)
    return found


def _missing(kind: Kind) -> Iterator[Path]:
    """Yield the files and folders named by a kind's options and missing here."""
    for name, option in type(kind).model_fields.items():
        if is_place(option.metadata, option.annotation):
            for path in _paths(getattr(kind, name)):
                anchor = Path(path.anchor)
                if not path.exists() and not any(anchor.glob(path.relative_to(anchor).as_posix())):
                    yield path


def _paths(value: Any) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _paths(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _paths(inner)


def _failure(hook: str, kind: Kind) -> Broken | None:
    """Find the first promise that a kind breaks, with the smallest input for it; None where it breaks none."""
    sentence = _said(_checks()[hook], kind)
    if sentence is None:
        return None
    options = kind.model_dump(mode="json")
    if hook not in _BY_ROW:
        return Broken(sentence, options)
    for rows in _small_inputs(_BY_ROW[hook]()):
        smaller = _said(_by_row(hook, rows), kind)
        if smaller is not None:
            return Broken(smaller, {"options": options, "rows": _as_json(rows)})
    return Broken(sentence, options)


def _said(check: Check, kind: Kind) -> str | None:
    """Run a check and return its sentence where it fails, else None; a kind that raises breaks a promise too."""
    with TemporaryDirectory() as folder:
        try:
            check(kind, Path(folder))
        except AssertionError as fault:
            return str(fault)
        except OrcaError as fault:
            return f"it cannot be tried: {fault}"
        # A stranger's kind may raise anything, and that it does is what is told.
        except Exception as fault:
            return f"it raises {type(fault).__name__}: {fault}".removesuffix(": ")
    return None


def _checks() -> dict[str, Check]:
    from orca_recipes.contract import testing

    return {
        "sources": testing.check_source,
        "strategies": lambda kind, folder: testing.check_strategy(kind),
        "teachers": lambda kind, folder: testing.check_teacher(kind),
        "filters": lambda kind, folder: testing.check_filter(kind),
        "templates": lambda kind, folder: testing.check_template(kind),
        "tokenizers": testing.check_tokenizer,
        "packers": lambda kind, folder: testing.check_packer(kind),
        "writers": testing.check_writer,
        "engines": lambda kind, folder: testing.check_engine(kind),
        "exporters": testing.check_exporter,
    }


def _by_row(hook: str, rows: pl.DataFrame) -> Check:
    from orca_recipes.contract import testing

    checks: dict[str, Check] = {
        "strategies": lambda kind, folder: testing.check_strategy(kind, rows),
        "teachers": lambda kind, folder: testing.check_teacher(kind, rows),
        "filters": lambda kind, folder: testing.check_filter(kind, rows),
    }
    return checks[hook]


def _small_inputs(frame: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield no row, then each row alone, then each pair of rows."""
    yield frame.head(0)
    for at in range(len(frame)):
        yield frame.slice(at, 1)
    for pair in combinations(range(len(frame)), 2):
        yield frame[list(pair)]


def _as_json(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Convert rows to JSON values, without nulls."""
    told = [{name: value for name, value in row.items() if value is not None} for row in rows.to_dicts()]
    found: list[dict[str, Any]] = json.loads(json.dumps(told, default=str))
    return found


def _examples() -> pl.DataFrame:
    from orca_recipes.contract.samples import sample_examples

    return sample_examples()


def _conversations() -> pl.DataFrame:
    from orca_recipes.contract.samples import sample_conversations

    return sample_conversations()


_BY_ROW: dict[str, Callable[[], pl.DataFrame]] = {
    "strategies": _examples,
    "teachers": _examples,
    "filters": _conversations,
}
"""The hooks whose kinds are asked by rows, and the rows that they are tried on."""


def _speed(hook: str, kind: Any) -> float | None:
    """Measure the microseconds a row takes, where a kind is asked by rows; else None."""
    import polars as pl

    from orca_recipes.contract.messages import Turn, conversations_of

    if hook not in _BY_ROW or (hook == "teachers" and (kind.collects or kind.collections())):
        return None
    sample = _BY_ROW[hook]()
    rows = pl.concat([sample] * (_ROWS_TIMED // len(sample) + 1))
    asked = conversations_of([Turn("user", rows["question"])]) if hook == "teachers" else None
    begun = perf_counter()
    if hook == "filters":
        kind.reasons(conversations=rows)
    elif hook == "strategies":
        kind.ask(examples=rows)
    else:
        kind.answer(examples=rows, requests=asked, seed=1)
    return round((perf_counter() - begun) / len(rows) * 1e6, 3)
