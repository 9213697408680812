"""What `plugin test` says of a kind that cannot be tried where it is run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from orca_recipes.catalogue import Catalogue
from orca_recipes.contract.hooks import hookimpl
from orca_recipes.contract.kinds import Place, Source
from orca_recipes.packages import conformance


class Shelf(Source):
    """Read jars.

    [collections.jars]
    kind = "shelf"
    path = "jars/*.jsonl"
    """

    kind: Literal["shelf"] = "shelf"
    path: Annotated[Place, Field(description="files of jars")]

    def files(self) -> Any:
        raise RuntimeError("a jar fell down")

    slices = read = files


class Shop:
    @hookimpl
    def orca_sources(self) -> dict[str, str]:
        return {"shelf": f"{__name__}:Shelf"}


def found(folder: Path) -> conformance.Tested:
    (one,) = conformance.tested("Shop", Catalogue(plugins=[Shop()]), folder)
    return one


@pytest.mark.parametrize("name", ["jars", "jars/b.txt"])
def test_a_kind_whose_example_names_files_that_are_not_here_is_untried(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir(parents=True)
    untried = found(tmp_path)
    assert (untried.is_sound, untried.failures) == (None, [])
    assert untried.untried == [f"its example names {tmp_path}/jars/*.jsonl, which is not here; run this where it is"]
    assert untried.as_json()["sound"] is None


def test_where_they_are_it_is_tried(tmp_path: Path) -> None:
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / "a.jsonl").touch()
    tried = found(tmp_path)
    assert (tried.is_sound, tried.untried) == (False, [])
    assert "a jar fell down" in tried.failures[0].check
