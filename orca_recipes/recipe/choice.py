"""Turn a recipe's table into a kind: `kind` picks the class from the catalogue, the class validates the rest.

The catalogue travels in pydantic's validation context, so that the grammar knows no kind and no kind is imported before
a recipe chooses it. Faults of a kind's options are put into sentences here, where its class and its name are known.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError, ValidationInfo
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from orca_recipes.contract.kinds import Kind
from orca_recipes.contract.pieces import Offer, Piece, piece_of_kind
from orca_recipes.contract.spelling import quoted
from orca_recipes.errors import OrcaError, PluginError
from orca_recipes.recipe.complaint import SETTLED, complaints
from orca_recipes.recipe.toml_lines import Path
from orca_recipes.recipe.wording import described

PIECE_KEY = "x-orca-piece"
"""Marks, in a JSON Schema, a place where a table of one piece stands: its value is the piece's word."""


Chosen = dict[type[Kind], set[Offer]]
"""Who offered the classes that a recipe chose."""


class Kinds(Protocol):
    """The catalogue as recipes use it; it is passed in, so that this package does not import it."""

    def offers(self, hook: str) -> tuple[Offer, ...]: ...

    def offer(self, hook: str, name: str) -> Offer: ...

    def kind(self, hook: str, name: str) -> type[Kind]: ...

    def no_such_kind(self, hook: str, name: str, *, tables: Iterable[str] = ()) -> str: ...


@dataclass(frozen=True)
class Choice:
    """Annotates a field of the grammar that holds a kind: a table, or its bare name."""

    piece: Piece

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(self._choose)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {PIECE_KEY: self.piece.word}

    def _choose(self, value: Any, info: ValidationInfo) -> Kind:
        kinds: Kinds = (info.context or {})["catalogue"]
        word = self.piece.word
        table = {"kind": value} if isinstance(value, str) else value
        if not isinstance(table, dict):
            raise _settled([((), f"must be a table or the name of a {word}, not {described(value)}")], value)
        name = table.get("kind")
        if not isinstance(name, str):
            offered = ", ".join(sorted({quoted(offer.name) for offer in kinds.offers(self.piece.hook)}))
            what = "it is missing" if name is None else f"not {described(name)}"
            raise _settled([(("kind",), f"must be the name of a {word} ({offered}); {what}")], value)
        try:
            kind = self._validated(kinds.kind(self.piece.hook, name), name, table, info)
            offer = kinds.offer(self.piece.hook, name)
        except PluginError as fault:
            raise _settled([(("kind",), str(fault))], value) from fault
        chosen: Chosen = (info.context or {}).get("chosen", {})
        chosen.setdefault(type(kind), set()).add(offer)
        return kind

    def _validated(self, kind: type[Kind], name: str, table: dict[str, Any], info: ValidationInfo) -> Kind:
        """Build the kind from the table's options; a `kind` of the form "distribution:name" loses its distribution."""
        bare = name.rpartition(":")[2]
        owner = f"{self.piece.word} {quoted(bare)}"
        try:
            # In strict mode pydantic takes a list for a tuple only from JSON.
            return kind.model_validate_json(json.dumps({**table, "kind": bare}), context=info.context)
        except ValidationError as fault:
            raise _settled(complaints(fault, model=kind, table=table, owner=owner), table) from fault
        except OrcaError as fault:
            raise _settled([((), str(fault))], table) from fault
        except Exception as fault:  # a stranger's validator broke: a fault of these options, not of the compiler
            said = f"{type(fault).__name__}: {fault}".removesuffix(": ")
            raise _settled([((), f"{owner} fails on these options: {said}")], table) from fault


def choice(contract: type[Kind]) -> Choice:
    """Annotate a field of the grammar that holds a kind of this contract class."""
    return Choice(piece_of_kind(contract))


def _settled(sentences: list[tuple[Path, str]], value: Any) -> ValidationError:
    """Make a validation error of finished sentences; pydantic puts the outer path before each."""
    details = [
        InitErrorDetails(type=PydanticCustomError(SETTLED, "{sentence}", {"sentence": sentence}), loc=path, input=value)
        for path, sentence in sentences
    ]
    return ValidationError.from_exception_data("kind", details)
