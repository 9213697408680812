"""Pages of `orca-recipe kinds`: the list of kinds and their packages, or one kind in detail.

Plain text, no wrapping: a page is read by people and by grep.
"""

import ast
import inspect
import json
import textwrap
import types
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, JsonValue
from pydantic.fields import FieldInfo

from orca_recipes.catalogue import Catalogue
from orca_recipes.contract.docstring import parted
from orca_recipes.contract.kinds import Kind, Source
from orca_recipes.contract.pieces import PIECES, Offer, piece_of_hook
from orca_recipes.contract.spelling import nearest, quoted
from orca_recipes.errors import PluginError
from orca_recipes.recipe.model import Recipe
from orca_recipes.text_table import in_columns

_PLAIN = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    Path: "path",
    type(None): "nothing",
    dict: "table",
    list: "list",
    tuple: "list",
}
_BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than", "multiple_of": "a multiple of"}


def list_page(catalogue: Catalogue) -> str:
    """List all kinds by hook, each with its distribution and version, then core tables and broken plugins."""
    blocks = [_hook_block(catalogue.offers(piece.hook), f"{piece.hook}  {piece.table}") for piece in PIECES]
    tables = [(f"  {name}", Recipe.model_fields[name].description or "") for name in _tables()]
    blocks.append("\n".join(["tables that the core reads (orca-recipe kinds mixtures)", *in_columns(tables)]))
    if catalogue.broken:
        blocks.append("\n".join(["plugins that do not load", *(f"  {plugin}" for plugin in catalogue.broken)]))
    return "\n\n".join(blocks) + "\n"


def kinds_json(catalogue: Catalogue, name: str | None) -> dict[str, Any]:
    """Return as JSON all kinds and their distributions, or those of one name (or a core table) with the JSON Schema of
    their options.

    Raises: as `kind_page`.
    """
    if name in (tables := _tables()):
        told_tables = [{"name": model.__name__, "options": model.model_json_schema()} for model in tables[name]]
        return {"table": name, "tables": told_tables}
    offers = _offers_of(catalogue, name) if name else _all_offers(catalogue)
    found = []
    for offer in offers:
        told: dict[str, Any] = asdict(offer)
        if name:
            kind = catalogue.kind(offer.hook, f"{offer.distribution}:{offer.name}")
            told |= {"description": parted(kind.__doc__)[0], "options": kind.model_json_schema()}
            if issubclass(kind, Source) and kind.layouts():
                told["shapes"] = {one: {"about": about, "example": row} for one, (about, row) in kind.layouts().items()}
        found.append(told)
    return {"kinds": found, "broken": [str(plugin) for plugin in catalogue.broken]}


def kind_page(catalogue: Catalogue, name: str) -> str:
    """Describe the kinds of one name (bare, or `distribution:name`): purpose, options, an example.

    The name of a table of kinds ("teachers") lists its kinds, that of a core table ("mixtures") prints its options.

    Raises: PluginError where there is none, or where its class cannot be loaded.
    """
    if name in (tables := _tables()):
        return "\n".join(_table_page(name, model) for model in tables[name])
    if piece := next((piece for piece in PIECES if name == piece.hook.removeprefix("orca_")), None):
        return _hook_block(catalogue.offers(piece.hook), f"{piece.hook}  {piece.table}") + "\n"
    return "\n".join(_page(catalogue, offer) for offer in _offers_of(catalogue, name))


def _tables() -> dict[str, list[type[BaseModel]]]:
    """Return the recipe tables that the core reads itself, by name, with the pydantic models they hold."""
    models = {name: list(dict.fromkeys(_models(field.annotation))) for name, field in Recipe.model_fields.items()}
    return {name: found for name, found in models.items() if found and not any(issubclass(one, Kind) for one in found)}


def _table_page(name: str, model: type[BaseModel]) -> str:
    """Describe a core table: its purpose, its options and those of its inner tables."""
    prose, _ = parted(model.__doc__)
    field = Recipe.model_fields[name]
    origin = get_origin(field.annotation)
    written = f"[{name}.NAME]" if origin is Mapping else f"[[{name}]]" if origin is tuple else f"[{name}]"
    blocks = [f"table {written}  {field.description or ''}".rstrip(), prose, "\n".join(["options", *_options(model)])]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _all_offers(catalogue: Catalogue) -> list[Offer]:
    return [offer for piece in PIECES for offer in catalogue.offers(piece.hook)]


def _offers_of(catalogue: Catalogue, name: str) -> list[Offer]:
    everything = _all_offers(catalogue)
    found = [offer for offer in everything if name in (offer.name, f"{offer.distribution}:{offer.name}")]
    if not found:
        might = "".join(f"\n  a plugin that does not load might offer it: {plugin}" for plugin in catalogue.broken)
        known = {offer.name for offer in everything} | _tables().keys()
        near = nearest(name, sorted(known))
        meant = f"; did you mean {quoted(near)}? " if near else "; "
        raise PluginError(f"there is no kind {quoted(name)}{meant}`orca-recipe kinds` lists all{might}")
    return found


def _hook_block(offers: tuple[Offer, ...], title: str) -> str:
    names = [offer.name for offer in offers]
    lines = in_columns([(f"  {offer.name}", f"{offer}{_collision(offer, names)}", _about(offer)) for offer in offers])
    return "\n".join([title, *(lines or ["  none"])])


def _about(offer: Offer) -> str:
    """Return the first sentence of what a kind's class says of itself, read off its file; empty where there is none.

    The class is not imported, nor what it imports: a list of kinds takes no second.
    """
    module, _, name = offer.target.partition(":")
    try:
        spec = find_spec(module)
        tree = ast.parse(Path(spec.origin or "").read_bytes()) if spec is not None else ast.Module([], [])
    except Exception:  # packages around a stranger's module are imported, and may raise anything
        return ""
    found = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)
    prose, _ = parted(None if found is None else ast.get_docstring(found))
    first = " ".join(prose.split("\n\n")[0].split())
    return first.partition(". ")[0].removesuffix(".")


def _collision(offer: Offer, names: list[str]) -> str:
    taken = names.count(offer.name) > 1
    return f'  (offered more than once: write kind = "{offer.distribution}:{offer.name}")' if taken else ""


def _page(catalogue: Catalogue, offer: Offer) -> str:
    kind = catalogue.kind(offer.hook, f"{offer.distribution}:{offer.name}")
    piece = piece_of_hook(offer.hook)
    prose, example = parted(kind.__doc__)
    options = list(_options(kind))
    table = f"{piece.table}\n" if piece.is_of_recipe else ""
    written = example or f"{table}kind = {json.dumps(offer.name)}"
    blocks = [
        f"{piece.word} {quoted(offer.name)}  {offer}  {offer.target}",
        prose,
        "\n".join(["options", *(options or ["  none"])]),
        "\n".join(["example", textwrap.indent(written, "  ")]),
        _layouts(kind),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _layouts(kind: type[Kind]) -> str:
    """List a source's named row layouts, each with an example row."""
    found = kind.layouts() if issubclass(kind, Source) else {}
    lines = [f"  {name}: {about}\n      {example}" for name, (about, example) in found.items()]
    return "\n".join([f"shapes (shape = {json.dumps(next(iter(found)))})", *lines]) if found else ""


def _options(model: type[BaseModel], above: tuple[type[BaseModel], ...] = ()) -> Iterator[str]:
    """Yield a line for each option, with the options of inner tables below it; a table that holds itself is shown
    once."""
    indent = "  " + "    " * len(above)
    for name, field in model.model_fields.items():
        if name == "kind" and issubclass(model, Kind):
            continue
        yield f"{indent}{field.alias or name}: {_type_of(field)}; {_default(field)}"
        if field.description:
            yield f"{indent}    {field.description}"
        for inner in _models(field.annotation):
            if inner not in (*above, model):
                yield from _options(inner, (*above, model))


def _type_of(field: FieldInfo) -> str:
    bounds = [
        f"{words} {getattr(mark, bound)}"
        for mark in field.metadata
        for bound, words in _BOUNDS.items()
        if getattr(mark, bound, None) is not None
    ]
    return ", ".join([plain_type(field.annotation), *bounds])


def plain_type(annotation: Any) -> str:
    """Describe a type in plain words: `integer`, `list of text`, `"drop" or "error"`."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is JsonValue:
        return "any value"
    if origin is Annotated:
        return plain_type(arguments[0])
    if origin is Literal:
        return " or ".join(json.dumps(choice) for choice in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(plain_type(arm) for arm in arguments if arm is not type(None))
    if origin is not None and arguments:
        is_table = inspect.isclass(origin) and issubclass(origin, Mapping)
        return f"table of {plain_type(arguments[-1])}" if is_table else f"list of {plain_type(arguments[0])}"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "table"
    return _PLAIN.get(annotation, getattr(annotation, "__name__", str(annotation)).lower())


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "may be left out"
    return f"default {json.dumps(_as_json(value), ensure_ascii=False)}"


def _as_json(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, tuple | list | set | frozenset):
        return [_as_json(item) for item in value]
    return value if isinstance(value, str | int | float | dict) else str(value)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
