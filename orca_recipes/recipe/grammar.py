"""Base of all tables of the grammar: strictness, names, and the types of written values.

Numbers that are not whole are decimals as they stand in the recipe, so that a tenth is a tenth on every machine.
"""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

NAME_PATTERN = "^[A-Za-z0-9][A-Za-z0-9._-]*$"
# File systems take 255 bytes, and a stage's folder puts verb and fingerprint around a name.
_LONGEST_NAME = 100
NAME_RULE = (
    'names become folders: letters, digits, ".", "_" and "-", the first a letter or a digit, '
    f"at most {_LONGEST_NAME} in all"
)
# Names in a build's folder, where each dataset gets a folder of its name; disks may not tell case apart.
_TAKEN_NAMES = frozenset({"tokenizer", "manifest.json", "curriculum.json"})


def is_name(text: str) -> bool:
    """Tell whether a text can name a table, and so the folder or file made of it."""
    return re.fullmatch(NAME_PATTERN.strip("^$"), text) is not None and len(text) <= _LONGEST_NAME


def _name(text: str) -> str:
    if not is_name(text):
        raise ValueError(NAME_RULE)
    return text


def _dataset_name(text: str) -> str:
    if text.casefold() in _TAKEN_NAMES:
        raise ValueError(f"no dataset can have this name: a build's folder holds a {text.casefold()} of its own")
    return text


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


Amount = Annotated[Decimal, WithJsonSchema({"type": "number"})]
"""A decimal as it is written: 0.1 is a tenth."""
Share = Annotated[Decimal, Field(gt=0, le=1), WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": 1})]
"""A part of a whole, above 0 and at most 1."""
Name = Annotated[str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": NAME_PATTERN})]
DatasetName = Annotated[
    str,
    AfterValidator(_name),
    AfterValidator(_dataset_name),
    WithJsonSchema({"type": "string", "pattern": NAME_PATTERN}),
]
OneOrMore = Annotated[
    tuple[str, ...],
    Field(min_length=1),
    BeforeValidator(_as_tuple, json_schema_input_type=str | Annotated[tuple[str, ...], Field(min_length=1)]),
]


class Grammar(BaseModel):
    """A table of the grammar: frozen, strict, and without options that nobody knows."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", protected_namespaces=())
