"""Write the site's reference pages, `recipe.md`, `commands.md` and `hooks.md`, when mkdocs builds it.

The recipe's page comes from the JSON Schema and the docstrings of kinds, that of commands from click, that of hooks
from the classes of the contract and the packages that `plugin new` writes: no such page lies in the repository, so none
can go stale.
"""

import inspect
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from orca_recipes.catalogue import Catalogue
from orca_recipes.cli.main import main
from orca_recipes.contract.docstring import parted
from orca_recipes.contract.kinds import Source
from orca_recipes.contract.pieces import PIECES, Offer, Piece
from orca_recipes.packages.skeleton import example_kind
from orca_recipes.recipe.schema import json_schema

_SECTIONS = ("Args", "Returns", "Raises", "Yields")
_ENTRY = r"`?\w+`?(?:, `?\w+`?)*: "
_LIST = re.compile(rf"{_ENTRY}|Args:\n")
OURS = "orca-recipes"
"""The pages tell of our own package alone, whatever else is installed where they are built."""
_BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "more than",
    "maximum": "at most",
    "exclusiveMaximum": "less than",
}
_PLAIN = {"string": "text", "integer": "integer", "number": "number", "boolean": "true or false"}

Schema = Mapping[str, Any]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the site (a hook of mkdocs)."""
    for name, text in (("recipe.md", recipe_page()), ("commands.md", commands_page()), ("hooks.md", hooks_page())):
        files.append(File.generated(config, name, content=text))
    return files


def recipe_page() -> str:
    """Markdown of all that a recipe can say: its tables, then the kinds of each piece, then the tables within."""
    catalogue = Catalogue()
    schema = json_schema(catalogue)
    inner = [name for name in schema["$defs"] if "." not in name and _is_table(schema["$defs"][name])]
    inner = [name for name in inner if name[0].isupper()]
    pieces = [piece for piece in PIECES if piece.is_of_recipe]
    blocks = [
        "# Recipe reference",
        "This page is written from the JSON Schema that `orca-recipe schema` prints. `orca-recipe kinds NAME` prints "
        "the same of every kind, also of plugins that you installed.",
        "## The whole recipe",
        *_options(schema["$defs"]["recipe"]),
        *(block for piece in pieces for block in _piece_blocks(piece, catalogue, schema["$defs"])),
        "## Tables within",
        *(block for name in inner for block in _table_blocks(name, schema["$defs"][name])),
    ]
    return "\n\n".join(blocks) + "\n"


def commands_page() -> str:
    """Markdown of every command with its options, as `--help` prints them."""
    blocks = ["# Command reference", "What `--help` prints, command by command."]
    blocks += [
        f"## {path}\n\n```text\n{text}\n```"
        for path, text in _helps(main, click.Context(main, info_name="orca-recipe"))
    ]
    return "\n\n".join(blocks) + "\n"


def hooks_page() -> str:
    """Markdown of what a kind of each hook must do, with a kind that does it: the one that `plugin new` writes."""
    blocks = [
        "# Hooks",
        "What a kind of each hook must do, and one that does it: the kind of the package that `orca-recipe plugin new "
        "NAME --hook HOOK` writes. A test installs each of these packages, runs its tests and builds a recipe with it.",
    ]
    for piece in PIECES:
        hook = piece.hook.removeprefix("orca_")
        base = piece.contract
        blocks += [f"## {hook}", f"Offered by `{piece.hook}`, written as `{piece.table}`."]
        blocks += _prose(inspect.getdoc(base))
        blocks += [block for name in vars(base) if _is_told(base, name) for block in _method(hook, base, name)]
        blocks += [f"```python\n{example_kind(hook, f'my-{hook}').strip()}\n```"]
    return "\n\n".join(blocks) + "\n"


def _is_told(base: type, name: str) -> bool:
    return not name.startswith("_") and inspect.isroutine(getattr(base, name)) and bool(getattr(base, name).__doc__)


def _method(hook: str, base: type, name: str) -> Iterator[str]:
    """One method: its signature, whether a kind must have it, and what it does."""
    method = getattr(base, name)
    must = "needed" if name in getattr(base, "__abstractmethods__", ()) else "may be left out"
    words = inspect.signature(method).parameters
    signature = ", ".join(str(words[word]).replace("'", "") for word in words if word != "self")
    yield f"### {name} {{ #{hook}-{name} }}"
    yield f"`{name}({signature})` ({must})"
    yield from _prose(inspect.getdoc(method))


def _prose(doc: str | None) -> Iterator[str]:
    """Markdown of a docstring: arguments and fields as a list, what stands four spaces in as TOML."""
    for paragraph in re.split(r"\n\n(?=\S)", doc or ""):
        if _LIST.match(paragraph):
            yield "\n".join(_items(paragraph))
        else:
            prose, _, example = paragraph.partition("\n\n    ")
            yield _escaped(prose)
            if example:
                yield f"```toml\n{textwrap.dedent(f'    {example}').strip()}\n```"


def _items(paragraph: str) -> Iterator[str]:
    """Lines of Markdown: an item for each argument or field, a paragraph for what is returned or raised."""
    for entry in re.split(rf"\n(?={_ENTRY}| {{4}}{_ENTRY}|\w+:\n)", paragraph):
        names, _, words = " ".join(entry.split()).partition(":")
        if names in _SECTIONS:
            yield f"\n{names}:{_escaped(words)}\n"
        else:
            yield f"- {', '.join(f'`{name}`' for name in names.replace('`', '').split(', '))}:{_escaped(words)}"


def _helps(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    if not isinstance(command, click.Group):
        yield context.command_path, command.get_help(context).strip()
        return
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None
        yield from _helps(inner, click.Context(inner, info_name=name, parent=context))


def _piece_blocks(piece: Piece, catalogue: Catalogue, definitions: Schema) -> Iterator[str]:
    yield f"## {piece.word.capitalize()} {{ #{piece.word} }}"
    yield f"Written as `{piece.table}`; plugins offer kinds of it by the hook `{piece.hook}`."
    for offer in catalogue.offers(piece.hook):
        if offer.distribution == OURS:
            yield from _kind_blocks(piece, offer, catalogue, definitions)


def _kind_blocks(piece: Piece, offer: Offer, catalogue: Catalogue, definitions: Schema) -> Iterator[str]:
    kind = catalogue.kind(offer.hook, f"{offer.distribution}:{offer.name}")
    prose, example = parted(kind.__doc__)
    name = f"{piece.word}.{offer.distribution}.{offer.name}"
    yield f"### {piece.word} `{offer.name}`"
    yield _escaped(prose)
    options = list(_options(definitions[name], kind=offer.name))
    # A list right behind another would be one with it.
    yield from ["Options:", *options] if options else []
    for inner in (inner for inner in definitions if inner.startswith(f"{name}.") and _is_table(definitions[inner])):
        yield from _table_blocks(inner, definitions[inner])
    yield f"```toml\n{example or f'{piece.table}{chr(10)}kind = {json.dumps(offer.name)}'}\n```"
    for shape, (about, row) in (kind.layouts() if issubclass(kind, Source) else {}).items():
        yield f"- `shape = {json.dumps(shape)}`: {_escaped(about)}, as in `{row}`"


def _table_blocks(name: str, table: Schema) -> Iterator[str]:
    yield f"#### {name.rpartition('.')[2]} {{ #{_anchor(name)} }}"
    yield from _prose(table.get("description"))
    yield from _options(table)


def _options(table: Schema, *, kind: str | None = None) -> Iterator[str]:
    lines = [
        _option(name, option, name in table.get("required", ()))
        for name, option in table["properties"].items()
        if kind is None or name != "kind"
    ]
    if lines:
        yield "\n".join(lines)


def _option(name: str, option: Schema, is_needed: bool) -> str:
    default = f", default `{json.dumps(option['default'], ensure_ascii=False)}`" if "default" in option else ""
    about = f": {_escaped(option['description'])}" if "description" in option else ""
    return f"- `{name}` ({_type(option)}{', needed' if is_needed else default}){about}"


def _type(option: Schema) -> str:
    if "$ref" in option:
        name = option["$ref"].removeprefix("#/$defs/")
        if name.endswith("JsonValue"):
            return "any value"
        if name == "profile":
            return "any part of a recipe"
        return f"[{name.rpartition('.')[2]}](#{_anchor(name)})"
    for choice in ("anyOf", "oneOf"):
        if choice in option:
            return " or ".join(dict.fromkeys(map(_type, option[choice])))
    if "enum" in option or "const" in option:
        return " or ".join(f"`{json.dumps(value)}`" for value in option.get("enum", [option.get("const")]))
    if option.get("type") == "array":
        return f"list of {_type(option['items'])}" if "items" in option else "list"
    if option.get("type") == "object":
        inner = next(iter(option.get("patternProperties", {}).values()), option.get("additionalProperties"))
        return f"tables by name, each {_type(inner)}" if isinstance(inner, dict) and inner else "table"
    bounds = [f"{words} {option[bound]}" for bound, words in _BOUNDS.items() if bound in option]
    return ", ".join([_PLAIN.get(option.get("type", ""), "any value"), *bounds])


def _is_table(body: Schema) -> bool:
    return "properties" in body


def _anchor(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _sign(found: re.Match[str]) -> str:
    return found[0] if len(found[0]) > 1 else f"\\{found[0]}"


def _escaped(prose: str) -> str:
    """Prose with what Markdown would take for its own signs escaped, outside of `code`."""
    parts = prose.split("`")
    # Words between two pairs of stars are meant to be bold; a star alone is itself.
    parts[::2] = [re.sub(r"\*\*\S[^*]*\*\*|[*\[\]<]", _sign, part) for part in parts[::2]]
    return "`".join(parts)
