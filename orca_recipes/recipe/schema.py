"""The JSON Schema of a recipe, with the options of every kind that is installed here.

It is for editors: a table of kinds is one of its kinds' tables, told apart by `kind` (with `if` and `then`, so that a
fault is told of the kind that was chosen), or a bare name where no option is needed. It describes what people may
write, so what a recipe may leave out (defaults.py) is not required, and a profile may hold any part of a recipe.
"""

from typing import Any

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError

from orca_recipes.contract.kinds import Kind
from orca_recipes.contract.pieces import PIECES, Offer, Piece
from orca_recipes.errors import PluginError
from orca_recipes.recipe.choice import PIECE_KEY, Kinds
from orca_recipes.recipe.defaults import FILLED, KINDS, TOKENIZER
from orca_recipes.recipe.extending import KEY
from orca_recipes.recipe.grammar import NAME_PATTERN
from orca_recipes.recipe.model import Recipe

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_PARTIAL = "partial."

Schema = dict[str, Any]

_HAS_MODEL: Schema = {
    "properties": {"tokenizer": {"type": "object", "required": ["model"]}},
    "required": ["tokenizer"],
}
"""A recipe whose tokenizer is that of a model, which brings a template."""


def json_schema(catalogue: Kinds) -> Schema:
    """Return JSON Schema 2020-12 of a whole recipe; kinds that cannot be loaded are left out."""
    recipe, definitions = _taken_apart(Recipe, prefix="")
    recipe["required"] = [name for name in recipe["required"] if name not in {*FILLED, "template"}]
    del definitions["Dataset"]["required"]
    for piece in (piece for piece in PIECES if piece.is_of_recipe):
        definitions |= _of_piece(piece, catalogue)
    profile = _partial({**recipe, "description": "merged deep into the recipe by --profile"})
    del profile["properties"][KEY]
    definitions |= {f"{_PARTIAL}{name}": _partial(body) for name, body in definitions.items()}
    for piece in (piece for piece in PIECES if piece.is_of_recipe):
        definitions |= _choices(piece, catalogue, definitions)
    recipe |= {"if": _HAS_MODEL, "else": {"required": ["template"]}}
    recipe["properties"]["profiles"] = _named_tables({"$ref": "#/$defs/profile"})
    # What extends another recipe may hold any part of one.
    partial = {**_partial(recipe), "required": [KEY]}
    partial["properties"] = {**partial["properties"], "profiles": recipe["properties"]["profiles"]}
    definitions |= {"profile": profile, "recipe": recipe, f"{_PARTIAL}recipe": partial}
    choice = {"then": {"$ref": f"#/$defs/{_PARTIAL}recipe"}, "else": {"$ref": "#/$defs/recipe"}}
    return {"$schema": _DIALECT, "title": "recipe", "if": {"required": [KEY]}, **choice, "$defs": definitions}


def _of_piece(piece: Piece, catalogue: Kinds) -> dict[str, Schema]:
    """Define the tables of one piece's kinds, and the models inside them."""
    definitions: dict[str, Schema] = {}
    offers = catalogue.offers(piece.hook)
    for offer in offers:
        spellings = _spellings(offer, offers)
        try:
            kind = catalogue.kind(piece.hook, spellings[-1])
        except PluginError:
            continue
        body, inner = _of_kind(kind, f"{piece.word}.{offer.distribution}.{offer.name}")
        definitions |= {**inner, _name(piece, offer): _chosen_by(body, spellings, is_default=_is_default(piece, offer))}
    return definitions


def _choices(piece: Piece, catalogue: Kinds, definitions: Schema) -> dict[str, Schema]:
    """Define the choice among a piece's kinds, once for a recipe and once for a profile, whose tables may leave out
    `kind`."""
    offers = [offer for offer in catalogue.offers(piece.hook) if _name(piece, offer) in definitions]
    tables = {_name(piece, offer): definitions[_name(piece, offer)] for offer in offers}
    kinds = {name: table["properties"]["kind"]["enum"] for name, table in tables.items()}
    bare = [kind for name, table in tables.items() if set(table["required"]) <= {"kind"} for kind in kinds[name]]
    default = [_name(piece, offer) for offer in offers if _is_default(piece, offer)]
    return {
        f"{prefix}{piece.word}": _choice(piece, kinds, bare, prefix, without_kind=default if not prefix else [*kinds])
        for prefix in ("", _PARTIAL)
    }


def _choice(
    piece: Piece, kinds: dict[str, list[str]], bare: list[str], prefix: str, *, without_kind: list[str]
) -> Schema:
    """Allow a kind's name or its table; a table without `kind` must fit one of `without_kind`, if there are any."""
    if not kinds:
        return {"description": f"a {piece.word}", "type": ["string", "object"]}
    unnamed: Schema = {"required": ["kind"]}
    if without_kind:
        arms = [{"$ref": f"#/$defs/{prefix}{name}"} for name in without_kind]
        # Of a lone arm a validator says what is wrong with it; of several, only that none fits.
        unnamed = arms[0] if len(arms) == 1 else {"anyOf": arms}
    # By if/then, not oneOf: of a wrong table a validator then says what is wrong with the kind that it names, where
    # oneOf says only that no branch fits.
    table: Schema = {
        "type": "object",
        "properties": {"kind": {"enum": [kind for names in kinds.values() for kind in names]}},
        "if": {"required": ["kind"]},
        "then": {
            "allOf": [
                {"if": {"properties": {"kind": {"enum": names}}}, "then": {"$ref": f"#/$defs/{prefix}{name}"}}
                for name, names in kinds.items()
            ]
        },
        "else": unnamed,
    }
    # A kind that needs an option cannot be chosen by its name alone.
    named: Schema = {"enum": bare, "description": f"a {piece.word} with its defaults"}
    return {"description": f"a {piece.word}", "if": {"type": "string"}, "then": named if bare else False, "else": table}


def _of_kind(kind: type[Kind], prefix: str) -> tuple[Schema, dict[str, Schema]]:
    """Describe a kind; one that pydantic cannot describe (a stranger's own types) allows everything."""
    try:
        return _taken_apart(kind, prefix=f"{prefix}.")
    except (PydanticInvalidForJsonSchema, PydanticSchemaGenerationError):
        return {"type": "object", "properties": {}}, {}


def _chosen_by(body: Schema, spellings: list[str], *, is_default: bool) -> Schema:
    properties = {**body["properties"], "kind": {"enum": spellings}}
    required = [*([] if is_default else ["kind"]), *(name for name in body.get("required", []) if name != "kind")]
    return {**body, "properties": properties, "required": required}


def _spellings(offer: Offer, offers: tuple[Offer, ...]) -> list[str]:
    """List the names of an offer in recipes: bare if nobody else offers the name, and with its distribution."""
    is_alone = sum(other.name == offer.name for other in offers) == 1
    return [*([offer.name] if is_alone else []), f"{offer.distribution}:{offer.name}"]


def _name(piece: Piece, offer: Offer) -> str:
    return f"{piece.word}.{offer.distribution}.{offer.name}"


def _is_default(piece: Piece, offer: Offer) -> bool:
    return {**KINDS, "tokenizer": TOKENIZER}.get(piece.table.strip("[]")) == offer.name


def _taken_apart(model: type[BaseModel], *, prefix: str) -> tuple[Schema, dict[str, Schema]]:
    """Split a model's schema from its definitions, which get prefixed names; both tidied."""
    schema = _tidied(model.model_json_schema(ref_template=f"#/$defs/{prefix}{{model}}"))
    definitions = {f"{prefix}{name}": body for name, body in schema.pop("$defs", {}).items()}
    return schema, definitions


def _tidied(node: Any) -> Any:
    """Return pydantic's schema as people write TOML: without null (TOML has none), titles, or names that break the
    rule."""
    if isinstance(node, list):
        return [_tidied(item) for item in node]
    if not isinstance(node, dict):
        return node
    tidy = {key: _tidied(value) for key, value in node.items() if not _is_noise(key, value)}
    if PIECE_KEY in tidy:
        tidy["$ref"] = f"#/$defs/{tidy.pop(PIECE_KEY)}"
    arms = tidy.get("anyOf")
    if isinstance(arms, list) and {"type": "null"} in arms:
        left = [arm for arm in arms if arm != {"type": "null"}]
        del tidy["anyOf"]
        tidy = {**left[0], **tidy} if len(left) == 1 else {**tidy, "anyOf": left}
    if "patternProperties" in tidy:
        tidy["additionalProperties"] = False
    return tidy


def _is_noise(key: str, value: Any) -> bool:
    return (key == "title" and isinstance(value, str)) or value is None


def _partial(node: Any) -> Any:
    """Derive the schema of a partial table: nothing is required, and references lead to partial definitions."""
    if isinstance(node, list):
        return [_partial(item) for item in node]
    if not isinstance(node, dict):
        return node
    partial = {key: _partial(value) for key, value in node.items() if key not in ("required", "minProperties")}
    if isinstance(partial.get("$ref"), str):
        partial["$ref"] = partial["$ref"].replace("#/$defs/", f"#/$defs/{_PARTIAL}", 1)
    return partial


def _named_tables(table: Schema) -> Schema:
    return {"type": "object", "patternProperties": {NAME_PATTERN: table}, "additionalProperties": False}
