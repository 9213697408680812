"""A pantry of small kinds, one for each hook, and recipes that are written from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from orca_recipes.catalogue import Catalogue
from orca_recipes.contract.hooks import hookimpl
from orca_recipes.contract.kinds import (
    Engine,
    Filter,
    Packer,
    Place,
    Source,
    Strategy,
    Teacher,
    Template,
    Tokenizer,
    Writer,
)
from orca_recipes.errors import SourceError
from orca_recipes.recipe.load import LoadedRecipe, load_recipe


def _unused(*args: Any, **options: Any) -> Any:
    raise AssertionError("reading a recipe runs no kind")


class Columns(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    question: str = "question"
    answer: str | None = None


class Shelf(Source):
    """Reads jars.

    Every jar is one file.

        [collections.pickles]
        kind = "shelf"
        path = "jars"
        submix = "sour"
    """

    kind: Literal["shelf"] = "shelf"
    path: Annotated[Place, Field(description="folder of jars")]
    submix: Annotated[str | None, Field(description="which jars")] = None
    columns: Columns | str = Columns()
    jars: Annotated[int, Field(ge=1, le=99, description="how many")] = 12
    share: float = 0.5
    labels: tuple[str, ...] = ()
    weights: Mapping[str, float] = {}
    mode: Literal["sweet", "sour", "salty"] = "sweet"

    files = slices = read = _unused


class Garden(Source):
    kind: Literal["garden"] = "garden"
    beds: int = 1

    @model_validator(mode="after")
    def _grows(self) -> Garden:
        if self.beds == 13:
            raise ValueError("thirteen beds bring bad luck; dig another")
        if self.beds == 14:
            raise SourceError("the garden is fenced")
        if self.beds == 15:
            raise KeyError("spade")
        return self

    files = slices = read = _unused


class Plainly(Strategy):
    kind: Literal["plainly"] = "plainly"

    ask = teach = _unused


class Aloud(Strategy):
    kind: Literal["aloud"] = "aloud"
    volume: int = 3

    ask = teach = _unused


class Book(Teacher):
    kind: Literal["book"] = "book"

    answer = _unused


class Sieve(Filter):
    kind: Literal["sieve"] = "sieve"
    max_chars: int = 100

    reasons = _unused


class Card(Template):
    kind: Literal["card"] = "card"
    header: str = ""

    markup = _unused


class Letters(Tokenizer):
    kind: Literal["letters"] = "letters"
    path: Place | None = None

    files = materialize = open = _unused


class Tight(Packer):
    kind: Literal["tight"] = "tight"

    pack = _unused


class Paper(Writer):
    kind: Literal["paper"] = "paper"

    write = _unused


class Kitchen(Engine):
    kind: Literal["kitchen"] = "kitchen"

    map = _unused


class Pantry:
    """A plugin that offers all of the above."""

    @hookimpl
    def orca_sources(self) -> dict[str, str]:
        return {"shelf": f"{__name__}:Shelf", "garden": f"{__name__}:Garden"}

    @hookimpl
    def orca_strategies(self) -> dict[str, str]:
        return {"plainly": f"{__name__}:Plainly", "aloud": f"{__name__}:Aloud"}

    @hookimpl
    def orca_teachers(self) -> dict[str, str]:
        return {"book": f"{__name__}:Book"}

    @hookimpl
    def orca_filters(self) -> dict[str, str]:
        return {"sieve": f"{__name__}:Sieve"}

    @hookimpl
    def orca_templates(self) -> dict[str, str]:
        return {"card": f"{__name__}:Card"}

    @hookimpl
    def orca_tokenizers(self) -> dict[str, str]:
        return {"letters": f"{__name__}:Letters"}

    @hookimpl
    def orca_packers(self) -> dict[str, str]:
        return {"tight": f"{__name__}:Tight"}

    @hookimpl
    def orca_writers(self) -> dict[str, str]:
        return {"paper": f"{__name__}:Paper"}

    @hookimpl
    def orca_engines(self) -> dict[str, str]:
        return {"kitchen": f"{__name__}:Kitchen"}


BASE = """\
name = "supper"
tokenizer = "letters"
template = "card"
packing = "tight"
output = "paper"
engine = "kitchen"
rules = [{ strategy = "plainly" }]

[collections.pickles]
kind = "shelf"
path = "jars"

[datasets.main]
teacher = "book"
"""
"""A whole recipe of the pantry's kinds, 14 lines; tests add tables behind it."""

Load = Callable[..., LoadedRecipe]


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return Catalogue(plugins=[Pantry()])


@pytest.fixture
def load(tmp_path: Path, catalogue: Catalogue) -> Load:
    """Write a recipe's text as supper.toml and load it."""

    def load_text(text: str, **options: Any) -> LoadedRecipe:
        path = tmp_path / "supper.toml"
        path.write_text(text, encoding="utf-8")
        return load_recipe(path, catalogue=catalogue, **options)

    return load_text


@pytest.fixture
def base() -> str:
    return BASE


@pytest.fixture
def faults(load: Load) -> Callable[..., list[str]]:
    """Load a recipe that is wrong and give its faults as "line: path: sentence"."""
    from orca_recipes.errors import RecipeError

    def faults_of(text: str, **options: Any) -> list[str]:
        with pytest.raises(RecipeError) as caught:
            load(text, **options)
        return [f"{fault.line}: {fault.path}: {fault.sentence}" for fault in caught.value.faults]

    return faults_of
