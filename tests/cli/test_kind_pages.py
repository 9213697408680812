"""`orca-recipe kinds` says which kinds there are, who offers them, and what their options are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from orca_recipes.catalogue import Catalogue
from orca_recipes.cli.kind_pages import kind_page, kinds_json, list_page, plain_type
from orca_recipes.contract.hooks import hookimpl
from orca_recipes.contract.kinds import Filter, Place
from orca_recipes.contract.pieces import PIECES
from orca_recipes.errors import PluginError


class Mesh(BaseModel):
    holes: Annotated[int, Field(gt=0, description="holes of an inch")]
    finer: Mesh | None = None


class Sieve(Filter):
    """Keep what falls through.

    What does not is rejected:

        [[datasets.main.filters]]
        kind = "sieve"
        max_chars = 7

    Fine meshes are slow.

        this is not TOML
    """

    kind: Literal["sieve"] = "sieve"
    max_chars: Annotated[int, Field(ge=1, le=9, description="longest that falls through")]
    where: Place | None = None
    mode: Literal["dry", "wet"] = "dry"
    labels: tuple[str, ...] = ("a", "é")
    weights: Mapping[str, float] = {}
    mesh: Mesh = Mesh(holes=3)

    def reasons(self, **options: Any) -> Any:
        raise AssertionError("a page runs no kind")


class Bare(Filter):
    kind: Literal["bare"] = "bare"

    def reasons(self, **options: Any) -> Any:
        raise AssertionError("a page runs no kind")


class Kitchen:
    @hookimpl
    def orca_filters(self) -> dict[str, str]:
        return {"sieve": f"{__name__}:Sieve", "bare": f"{__name__}:Bare"}


class Cellar:
    @hookimpl
    def orca_filters(self) -> dict[str, str]:
        return {"sieve": f"{__name__}:Sieve"}


class Wreck:
    @hookimpl
    def orca_filters(self) -> dict[str, str]:
        raise RuntimeError("sunk")


def test_the_list_names_each_hook_its_table_and_who_offers_each_kind() -> None:
    page = list_page(Catalogue(plugins=[Kitchen()]))
    assert all(f"{piece.hook}  {piece.table}\n" in page for piece in PIECES)
    block = page[page.index("orca_filters") :].split("\n\n")[0].splitlines()
    offers = [line.split()[:2] for line in block]
    assert ["bare", "Kitchen"] in offers
    assert ["length", "orca-recipes"] in offers


def test_the_list_marks_a_kind_that_is_offered_twice() -> None:
    page = list_page(Catalogue(plugins=[Kitchen(), Cellar()]))
    lines = [" ".join(line.split()) for line in page.splitlines()]
    for package in ("Cellar", "Kitchen"):
        marked = f'sieve {package} (offered more than once: write kind = "{package}:sieve")'
        assert any(line.startswith(marked) for line in lines)


def test_a_kind_in_a_package_that_does_not_load_is_listed_without_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sunken").mkdir()
    (tmp_path / "sunken" / "__init__.py").write_text("raise RuntimeError('sunk')\n")
    (tmp_path / "sunken" / "kinds.py").write_text('class Hull:\n    """Keep what floats."""\n')
    monkeypatch.syspath_prepend(tmp_path)

    class Sunken:
        @hookimpl
        def orca_filters(self) -> dict[str, str]:
            return {"hull": "sunken.kinds:Hull"}

    lines = [line.split() for line in list_page(Catalogue(plugins=[Sunken()])).splitlines()]
    assert ["hull", "Sunken"] in lines


def test_the_list_ends_with_the_plugins_that_do_not_load() -> None:
    page = list_page(Catalogue(plugins=[Wreck()]))
    assert page.endswith('plugins that do not load\n  Wreck (entry point "Wreck"): orca_filters: RuntimeError: sunk\n')


def test_the_page_of_a_kind_holds_docstring_options_and_an_example() -> None:
    assert (
        kind_page(Catalogue(plugins=[Kitchen()]), "sieve")
        == f"""\
filter "sieve"  Kitchen  {__name__}:Sieve

Keep what falls through.

What does not is rejected:

Fine meshes are slow.

    this is not TOML

options
  max_chars: integer, at least 1, at most 9; needed
      longest that falls through
  where: path; may be left out
  mode: "dry" or "wet"; default "dry"
  labels: list of text; default ["a", "é"]
  weights: table of number; default {{}}
  mesh: table; default {{"holes": 3}}
      holes: integer, more than 0; needed
          holes of an inch
      finer: table; may be left out

example
  [[datasets.main.filters]]
  kind = "sieve"
  max_chars = 7
"""
    )


def test_a_kind_without_options_or_docstring_has_a_page_too() -> None:
    assert kind_page(Catalogue(plugins=[Kitchen()]), "bare").endswith(
        'options\n  none\n\nexample\n  [[datasets.NAME.filters]]\n  kind = "bare"\n'
    )


def test_a_name_that_several_offer_has_all_their_pages_and_a_distribution_picks_one() -> None:
    catalogue = Catalogue(plugins=[Kitchen(), Cellar()])
    assert kind_page(catalogue, "sieve").count('filter "sieve"  ') == 2
    assert kind_page(catalogue, "Cellar:sieve").startswith('filter "sieve"  Cellar  ')


def test_an_unknown_kind_is_answered_with_the_nearest_of_any_hook() -> None:
    with pytest.raises(PluginError) as caught:
        kind_page(Catalogue(plugins=[Wreck()]), "bestfit")
    assert str(caught.value) == (
        'there is no kind "bestfit"; did you mean "best_fit"? `orca-recipe kinds` lists all\n'
        '  a plugin that does not load might offer it: Wreck (entry point "Wreck"): orca_filters: RuntimeError: sunk'
    )


@pytest.mark.parametrize("offer", [offer for piece in PIECES for offer in Catalogue().offers(piece.hook)], ids=str)
def test_every_built_in_kind_has_a_page_with_an_example(offer: Any) -> None:
    page = kind_page(Catalogue(), f"{offer.distribution}:{offer.name}")
    assert f'kind = "{offer.name}"' in page.partition("\nexample\n")[2]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "integer"),
        (str | None, "text"),
        (bool, "true or false"),
        (Literal["auto"] | int, '"auto" or integer'),
        (tuple[Annotated[int, Field(gt=0)], ...], "list of integer"),
        (Mapping[str, tuple[str, ...]], "table of list of text"),
        (Mesh, "table"),
        (dict, "table"),
    ],
)
def test_types_are_said_in_plain_words(annotation: Any, words: str) -> None:
    assert plain_type(annotation) == words


@pytest.mark.parametrize(
    ("name", "written", "option"),
    [
        ("mixtures", "table [mixtures.NAME]  ", "per_task: integer, at least 1; may be left out"),
        ("rules", "table [[rules]]  ", "strategy: text; needed"),
        ("training", "table [training]  ", "learning_rate: number, more than 0; default 2e-05"),
    ],
)
def test_a_table_that_the_core_reads_has_a_page_too(name: str, written: str, option: str) -> None:
    catalogue = Catalogue()
    page = kind_page(catalogue, name)
    assert page.startswith(written)
    assert option in page
    assert f"  {name} " in list_page(catalogue)
    told = kinds_json(catalogue, name)
    assert told["table"] == name
    assert option.partition(":")[0] in json.dumps(told["tables"])


def test_the_name_of_a_table_of_kinds_lists_them() -> None:
    assert "orca_teachers  [teachers.NAME]" in kind_page(Catalogue(), "teachers")


def test_a_name_that_is_like_none_is_not_taken_for_another() -> None:
    with pytest.raises(PluginError) as caught:
        kind_page(Catalogue(), "nope")
    assert str(caught.value) == 'there is no kind "nope"; `orca-recipe kinds` lists all'


def test_every_built_in_kind_is_listed_with_what_it_does() -> None:
    blocks = dict(zip((piece.hook for piece in PIECES), list_page(Catalogue()).split("\n\n"), strict=False))
    for hook, block in blocks.items():
        for offer in Catalogue().offers(hook):
            (line,) = [line for line in block.splitlines() if line.split()[:1] == [offer.name]]
            prose = Catalogue().kind(hook, f"{offer.distribution}:{offer.name}").__doc__ or ""
            told = line.rpartition(str(offer))[2].strip()
            assert told
            assert " ".join(prose.split()).startswith(told)
