"""Checks of the promises of every kind: it is frozen, picklable, and documents itself."""

from __future__ import annotations

import json
import pickle
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError

from orca_recipes.contract.docstring import parted
from orca_recipes.contract.kinds import Kind


def check_kind(kind: Kind) -> None:
    """Check an instance and its class.

    It is immutable and comes out of a pickle as it went in; its identity is the same JSON each time and holds no
    place; unknown options are refused; each option has a description, and the docstring an example that validates.
    """
    _check_class(type(kind))
    _check_frozen(kind)
    again = _pickled(kind)
    expect(again == kind, "the kind comes out of a pickle as another; workers would do other work")
    expect(_identity(again) == _identity(kind), "identity() differs after a pickle; nothing would ever be cached")
    _check_places(kind)
    expect(bool(example_kinds(type(kind))), _no_example(type(kind)))


def example_kinds(cls: type[Kind], base: Path = Path("/")) -> list[Kind]:
    """Make the kinds of the TOML example in a class's docstring, with places that begin at `base`.

    Raises: AssertionError for TOML that makes none.
    """
    tables = _tables(tomllib.loads(parted(cls.__doc__)[1]), cls.model_fields["kind"].default)
    try:
        # As JSON: kinds are strict, and pydantic then takes a list for a tuple from JSON alone.
        return [cls.model_validate_json(json.dumps(table), context={"base": base}) for table in tables]
    except ValidationError as error:
        raise AssertionError(f"the TOML in the docstring of {cls.__name__} does not hold: {error}") from error


def expect(kept: bool, sentence: str) -> None:
    """Raise AssertionError with the sentence unless the promise is kept (also under `python -O`)."""
    if not kept:
        raise AssertionError(sentence)


def _check_class(cls: type[Kind]) -> None:
    annotation = cls.model_fields["kind"].annotation
    named = get_origin(annotation) is Literal and get_args(annotation) == (cls.model_fields["kind"].default,)
    expect(named, f'{cls.__name__}.kind must be declared as in `kind: Literal["name"] = "name"`')
    revised = isinstance(cls.revision, int) and cls.revision >= 1
    expect(revised, f"{cls.__name__}.revision must be an integer from 1 on; it is part of every fingerprint")
    for name, field in cls.model_fields.items():
        described = name == "kind" or bool(field.description)
        expect(described, f"option {name!r} of {cls.__name__} has no description; write Field(description=...)")
    strict = {name: cls.model_config.get(name) for name in ("frozen", "strict")}
    expect(
        all(strict.values()) and cls.model_config.get("extra") == "forbid", f"{cls.__name__} loosens its model_config"
    )


def _check_frozen(kind: Kind) -> None:
    for name in type(kind).model_fields:
        try:
            setattr(kind, name, getattr(kind, name))
        except ValidationError:
            continue
        raise AssertionError(f"option {name!r} can be set after the kind is made; kinds are frozen")


def _pickled(kind: Kind) -> Kind:
    try:
        again = pickle.loads(pickle.dumps(kind))
    except Exception as error:
        raise AssertionError(f"the kind cannot be pickled, so no worker can use it: {error}") from error
    expect(isinstance(again, type(kind)), "the kind comes out of a pickle as another class")
    return again  # type: ignore[no-any-return]


def _identity(kind: Kind) -> str:
    try:
        written = json.dumps(kind.identity(), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise AssertionError(f"identity() is not JSON, so it cannot be fingerprinted: {error}") from error
    again = json.dumps(kind.identity(), sort_keys=True)
    expect(written == again, "identity() differs each time, so nothing would ever be cached")
    return written


def _check_places(kind: Kind) -> None:
    identity = kind.identity()
    for name in type(kind).model_fields:
        held = list(_paths(getattr(kind, name)))
        sentence = (
            f"option {name!r} is a path and part of identity(); type it as `Place`, so that moving files reruns nothing"
        )
        expect(not held or name not in identity, sentence)


def _paths(value: Any) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    elif isinstance(value, dict):
        for held in value.values():
            yield from _paths(held)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for held in value:
            yield from _paths(held)


def _tables(value: Any, name: str) -> Iterator[dict[str, Any]]:
    """Yield every table of parsed TOML whose `kind` is this name."""
    if isinstance(value, dict):
        if value.get("kind") == name:
            yield value
        else:
            for held in value.values():
                yield from _tables(held, name)
    elif isinstance(value, list):
        for held in value:
            yield from _tables(held, name)


def _no_example(cls: type[Kind]) -> str:
    name = cls.model_fields["kind"].default
    return f'the docstring of {cls.__name__} has no TOML example with kind = "{name}"'
