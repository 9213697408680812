"""The base of every kind: a frozen pydantic model whose fields are its options."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationInfo


class _PlaceMark:
    """Marks an option as a place: a path decides where data lie, not what they hold."""


def _beside_the_recipe(path: Path, info: ValidationInfo) -> Path:
    base = (info.context or {}).get("base")
    return Path(base) / path.expanduser() if base is not None else path


def _not_empty(path: Any) -> Any:
    if path == "":
        raise ValueError("must name a file or a folder, and is empty; the recipe's own folder is .")
    return path


Place = Annotated[Path, BeforeValidator(_not_empty), AfterValidator(_beside_the_recipe), _PlaceMark()]
"""A path option: relative to the recipe file, and never part of a fingerprint (the digests of what it holds are)."""


class Kind(BaseModel):
    """A named, configurable piece that a recipe can choose."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())

    kind: str
    revision: ClassVar[int] = 1

    @classmethod
    def methods_missing(cls) -> tuple[str, ...]:
        """Return names of the methods that a class still needs to be a kind; of a finished one none."""
        return tuple(sorted(getattr(cls, "__abstractmethods__", ())))

    def identity(self) -> dict[str, Any]:
        """Return the options that decide the output (all but places) as JSON values."""
        return self.model_dump(mode="json", exclude=_places_of(type(self)))


@cache
def _places_of(kind: type[Kind]) -> set[str]:
    """Return the options of a class that hold places; thousands of collections share one."""
    return {name for name, field in kind.model_fields.items() if is_place(field.metadata, field.annotation)}


def is_place(metadata: Sequence[Any], annotation: Any) -> bool:
    """Tell whether an option holds places, by the metadata and the annotation of its field."""
    if any(isinstance(mark, _PlaceMark) for mark in metadata):
        return True
    return any(is_place(getattr(inner, "__metadata__", ()), inner) for inner in typing.get_args(annotation))
