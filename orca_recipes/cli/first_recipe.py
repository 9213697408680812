"""The command that begins: look at data and write the recipe that reads it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orca_recipes.cli.options import JSON, print_json, print_text
from orca_recipes.counted import counted
from orca_recipes.errors import SourceError, TokenizerError

if TYPE_CHECKING:
    from orca_recipes.contract.source import Look

_CHAT_TOKENS = ("<|im_start|>", "<|im_end|>")
_COLUMNS_SHOWN = 20
_NO_TOKENIZER = """\
# Name the tokenizer of the model that is to be trained: a folder, a tokenizer.json or a SentencePiece model.
# [tokenizer]
# kind = "hf"
# path = "..."

# [template]
# kind = "from_tokenizer"        # the chat template that the tokenizer brings, or "chatml"
"""


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("-o", "recipe", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Recipe to write.")
@click.option("--shape", metavar="NAME", help="The layout of the rows.  [default: told by their columns]")
@click.option("--tokenizer", type=click.Path(path_type=Path), help="A tokenizer's folder or file.")
@JSON
def init(data: Path, recipe: Path, shape: str | None, tokenizer: Path | None, as_json: bool) -> None:
    """Look at DATA, a file or a folder, and write a recipe with comments that reads it.

    The layout is told by columns and first rows; where several fit as well, --shape names the one that is meant.
    `orca-recipe kinds files` lists all of them.
    """
    if recipe.exists():
        raise SourceError(f"{recipe}: there is a file of this name; name another, or take it away")
    look, chosen, needed = _looked_at(data, shape)
    text = _text(data, recipe, chosen, look, tokenizer, needed)
    _write_new(recipe, text)
    if as_json:
        told = {"recipe": str(recipe), "shape": chosen, "candidates": list(look.candidates)}
        print_json({**told, "columns": look.columns, "rows_seen": look.rows})
        return
    print_text(f"{data}: {counted(look.rows, 'row')} seen; the shape is {chosen} ({look.about})")
    if look.rows and not look.answered:
        print_text("warning: none of these rows brings an answer; a teacher must give them", err=True)
    for fault in look.faults:
        print_text(f"warning: {fault}", err=True)
    after = "name its tokenizer there, then" if tokenizer is None else "next:"
    print_text(f"{recipe}: written; {after} orca-recipe check {recipe} && orca-recipe build {recipe}")


def _looked_at(data: Path, shape: str | None) -> tuple[Look, str, Mapping[str, Any]]:
    """What the data's first rows are, the layout that the recipe names, and the other options that it needs.

    Raises: SourceError where there is nothing to read, or no layout can be told.
    """
    from pydantic import ValidationError

    from orca_recipes.catalogue import Catalogue
    from orca_recipes.contract.kinds import Source
    from orca_recipes.run.work.limited import LIMITED

    kind = Catalogue().kind("orca_sources", "files")
    try:
        source = kind.model_validate({"kind": "files", "path": data, "shape": shape or "auto"})
    except ValidationError as fault:
        raise SourceError(fault.errors()[0]["msg"]) from None
    assert isinstance(source, Source), "sources are offered as sources"
    return LIMITED.do(_look_at, source, what=str(data), failure=SourceError)


def _look_at(source: Any) -> tuple[Look, str, Mapping[str, Any]]:
    needed = source.suggested()
    found = source.model_copy(update=dict(needed)).settled(files=[], versions={}, insist=False)
    return found.look(), str(found.pins()["shape"]), needed


def _text(data: Path, recipe: Path, shape: str, look: Look, tokenizer: Path | None, needed: Mapping[str, Any]) -> str:
    """The recipe, with comments."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", data.name.partition(".")[0] or data.resolve().name).strip("._-") or "data"
    columns = ", ".join(f"{ours} = {json.dumps(theirs)}" for ours, theirs in look.columns.items())
    more = f" and {len(look.found) - _COLUMNS_SHOWN} more" if len(look.found) > _COLUMNS_SHOWN else ""
    found = ", ".join(one if one.isprintable() else ascii(one) for one in look.found[:_COLUMNS_SHOWN])
    path = json.dumps(Path(os.path.relpath(data, recipe.parent)).as_posix(), ensure_ascii=False)
    lines = "".join(f"{option} = {json.dumps(value)}\n" for option, value in needed.items())
    return f"""\
# Written by orca-recipe init. All of it may be changed; `orca-recipe check` says what is wrong with it.
name = "{name}"

[collections.{_key(name)}]
kind = "files"
path = {path}
{lines}# {look.about}
shape = "{shape}"
# The columns of its rows: {found}{more}
# In place of a shape, columns can be named one by one: columns = {{ {columns} }}
# where = {{ language = "en" }}      # read only rows whose columns are so
# on_bad_row = "reject"            # list rows that cannot be read and go on; by itself more than 1 % is an error

{_student(recipe, tokenizer)}
[packing]
row_tokens = 2048                # the longest example, and the length of the rows that are trained on
"""


def _key(name: str) -> str:
    return f'"{name}"' if "." in name else name


def _student(recipe: Path, tokenizer: Path | None) -> str:
    """The tables of the tokenizer and of its template.

    Raises: TokenizerError where there is no such tokenizer.
    """
    if tokenizer is None:
        return _NO_TOKENIZER
    if not tokenizer.exists():
        raise TokenizerError(f"{tokenizer}: there is no such tokenizer")
    path = json.dumps(Path(os.path.relpath(tokenizer, recipe.parent)).as_posix(), ensure_ascii=False)
    lines = ["[tokenizer]", 'kind = "hf"', f"path = {path}"]
    if _brings_a_template(tokenizer):
        return "\n".join([*lines, "", "[template]", 'kind = "from_tokenizer"', ""])
    if not _holds(tokenizer, _CHAT_TOKENS):
        lines.append(f"add_special_tokens = {json.dumps(list(_CHAT_TOKENS))}   # what the template marks turns with")
    return "\n".join([*lines, "", "[template]", 'kind = "chatml"', ""])


def _brings_a_template(tokenizer: Path) -> bool:
    folder = tokenizer if tokenizer.is_dir() else tokenizer.parent
    if not tokenizer.is_dir() and tokenizer.name != "tokenizer.json":
        return False
    return (folder / "chat_template.jinja").is_file() or "chat_template" in _json(folder / "tokenizer_config.json")


def _holds(tokenizer: Path, tokens: tuple[str, ...]) -> bool:
    """Whether a tokenizer has control tokens of these texts."""
    definition = _json(tokenizer / "tokenizer.json" if tokenizer.is_dir() else tokenizer)
    added = definition.get("added_tokens")
    known = {token.get("content") for token in added if isinstance(token, dict)} if isinstance(added, list) else set()
    return set(tokens) <= known


def _json(path: Path) -> dict[str, Any]:
    """What a file of JSON holds; nothing where it is none, which building says in its own words."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_new(path: Path, text: str) -> None:
    """Write a file that was not there, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(text, encoding="utf-8")
        os.link(aside, path)
    except FileExistsError:
        raise SourceError(f"{path}: there is a file of this name; name another, or take it away") from None
    finally:
        aside.unlink(missing_ok=True)
