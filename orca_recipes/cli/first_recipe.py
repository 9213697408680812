"""The command that begins: look at data and write the recipe that reads it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orca_recipes.cli.options import JSON, print_json, print_text
from orca_recipes.counted import counted
from orca_recipes.errors import SourceError, TokenizerError
from orca_recipes.json_text import json_value
from orca_recipes.store.disk_faults import writing

if TYPE_CHECKING:
    from orca_recipes.contract.source import Look

_CHAT_TOKENS = ("<|im_start|>", "<|im_end|>")
# A wide table has hundreds of columns, and these stand in a comment that a person reads.
_COLUMNS_SHOWN = 20
_NAME_CHARS = 60
# A data set of the hub and a file in a folder are both written "one/two": `_place` tells them apart.
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_LANGUAGES = ("lang", "language")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_FILE_NAME = re.compile(r"\.(jsonl?|ndjson|traj|[ct]sv|parquet|arrow|zip|t?gz|tar|zst|xz|bz2)$")
_NO_TOKENIZER = """\
# Name the model that is to be trained: a name of the Hugging Face hub, or a folder ("./name"). It brings the tokenizer,
# the chat template and the end tokens.
# [tokenizer]
# model = "ORGANISATION/NAME"

# Or name a tokenizer alone (a folder, a tokenizer.json or a SentencePiece model), and a template beside it:
# [tokenizer]
# kind = "hf"
# path = "tokenizer.json"
# [template]
# kind = "chatml"
"""


@click.command()
@click.argument("data")
@click.option(
    "-o",
    "recipe",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Recipe to write.  [default: NAME-OF-THE-DATA.toml in this folder]",
)
@click.option("--shape", metavar="NAME", help="The layout of the rows.  [default: told by their columns]")
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="OURS=THEIRS",
    help="Read a column, in place of a shape: question=q; may be repeated.",
)
@click.option("--rows", metavar="PATH", help="Where the list of rows lies in a JSON object.  [default: its only list]")
@click.option("--config", metavar="NAME", help="The configuration, where a data set has several.")
@click.option("--split", metavar="NAME", help="The split of a data set.  [default: train, or the only one]")
@click.option(
    "--tokenizer",
    type=click.Path(path_type=Path),
    metavar="TOKENIZER",
    help="A tokenizer's folder or file, or a model's name on the hub.",
)
@JSON
def init(
    data: str,
    recipe: Path | None,
    shape: str | None,
    columns: tuple[str, ...],
    rows: str | None,
    config: str | None,
    split: str | None,
    tokenizer: Path | None,
    as_json: bool,
) -> None:
    """Look at DATA, and write a recipe with comments that reads it.

    DATA is a file, a folder or a pattern of such, an address (s3://BUCKET/PATH), or the name of a data set of the hub
    (ORGANISATION/NAME), of which the first file is looked at.

    The layout is told by columns and first rows; where several fit as well, --shape names the one that is meant, and
    where none does, --column says which columns are read.
    `orca-recipe kinds files` lists all of them.
    """
    place = _place(data, recipe.parent if recipe is not None else Path())
    recipe = recipe or Path(f"{place.name}.toml")
    if recipe.exists():
        raise SourceError(f"{recipe}: there is a file of this name; name another with -o, or take it away")
    named = _columns(columns)
    of_set = {name: value for name, value in (("config", config), ("split", split)) if value is not None}
    look, chosen, found = _looked_at(place, shape, named, rows, of_set)
    needed = {**of_set, **found}
    text = _text(place, recipe, chosen, look, tokenizer, needed, named)
    with writing(recipe.parent, f"the recipe {recipe}", "name another place with -o"):
        _write_new(recipe, text)
    if as_json:
        told = {"recipe": str(recipe), "shape": chosen, "candidates": list(look.candidates)}
        print_json({**told, "columns": named or look.columns, "rows_seen": look.rows})
        return
    seen = f"the shape is {chosen} ({look.about})" if chosen is not None else "its columns are read as you name them"
    print_text(f"{data}: {counted(look.rows, 'row')} seen; {seen}")
    for remark in look.remarks:
        print_text(f"{data}: {remark}")
    if look.unused:
        print_text(f"columns that nothing reads: {_listed(look.unused)}")
    if look.answered < look.rows:
        without = f"{look.rows - look.answered} of these rows bring no answer; a teacher must give it, or they are lost"
        none = "none of these rows brings an answer; a teacher must give them"
        print_text(f"warning: {without if look.answered else none}", err=True)
    template = "chatml" if '"chatml"' in text else _template_without_tools(tokenizer)
    if look.beside and template is not None:
        held = " and ".join(look.beside)
        print_text(
            f"warning: some of these rows hold {held}, which the template {template} does not print: rows with calls "
            "or tools will be rejected; name a tokenizer that brings a chat template with a place for them",
            err=True,
        )
    for fault in look.faults:
        print_text(f"warning: {fault}", err=True)
    after = "name its tokenizer there, then" if tokenizer is None else "next:"
    print_text(f"{recipe}: written; {after} orca-recipe check {recipe} && orca-recipe build {recipe}")


@dataclass(frozen=True)
class _Place:
    """Location of the data: its kind of source, that kind's option for it, the value seen from this folder (`here`) and
    from the recipe (`written`), and the collection's name."""

    kind: str
    option: str
    here: Any
    written: str
    name: str


def _place(data: str, folder: Path) -> _Place:
    """Locate DATA, for a recipe in some folder: a data set of the hub if it reads ORGANISATION/NAME, is no file's name
    and has no such folder here; else files."""
    named = data.removeprefix("hf://datasets/")
    if _HUB_NAME.fullmatch(named) and not _FILE_NAME.search(named) and not Path(named).parent.exists():
        return _Place("hub", "name", named, named, _named(named.rpartition("/")[2]))
    path = Path(data)
    if path.suffix == ".toml" and path.is_file():
        raise SourceError(f"{data}: this is a recipe, not data; orca-recipe check {data} says what is wrong with it")
    # A recipe's paths begin at its own folder, those of a command line at the current one.
    written = data if "://" in data else Path(os.path.relpath(path, folder)).as_posix()
    # Of a pattern the last part without wildcards names the collection: data/train/*.jsonl is "train".
    plain = next((part for part in reversed(path.parts) if not set("*?[") & set(part)), "")
    return _Place("files", "path", path, written, _named(plain.partition(".")[0] or path.resolve().name))


def _named(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("._-") or "data"


def _columns(said: Sequence[str]) -> dict[str, str]:
    """Return columns as they are named. Raises: SourceError."""
    named = {}
    for told in said:
        ours, equals, theirs = told.partition("=")
        if not (ours and equals and theirs):
            raise SourceError(f"--column {told}: write OURS=THEIRS, as in --column question=q")
        named[ours] = theirs
    return named


def _looked_at(
    place: _Place, shape: str | None, columns: Mapping[str, str], rows: str | None, of_set: Mapping[str, str]
) -> tuple[Look, str | None, Mapping[str, Any]]:
    """Read the data's first rows; return the look at them, the layout for the recipe, and the other options it needs.

    Raises: SourceError where there is nothing to read, or no layout can be told.
    """
    from pydantic import ValidationError

    from orca_recipes.catalogue import Catalogue
    from orca_recipes.contract.kinds import Source
    from orca_recipes.run.work.limited import LIMITED

    kind = Catalogue().kind("orca_sources", place.kind)
    try:
        read = {"shape": shape or (None if columns else "auto"), **({"columns": dict(columns)} if columns else {})}
        source = kind.model_validate({"kind": place.kind, place.option: place.here, **of_set, **read})
    except ValidationError as fault:
        raise SourceError(fault.errors()[0]["msg"]) from None
    assert isinstance(source, Source), "sources are offered as sources"
    if place.kind == "hub":
        if rows is not None:
            raise SourceError("--rows is for files of JSON, not for data sets of the hub; leave it out")
        return _look_at((source, {}))
    # What lies at an address is fetched here: that may take longer than a file may.
    fetched = source.model_copy(update={"shape": None}).settled(files=[], versions={}, insist=False)
    source = source.model_copy(update={place.option: getattr(fetched, place.option)})
    # A list may lie in any JSON, whatever its file is called.
    given = {} if rows is None else {"rows": rows} | ({} if _is_json(place) else {"format": "json"})
    return LIMITED.do(_look_at, (source, given), what=str(place.here), failure=SourceError)


def _is_json(place: _Place) -> bool:
    return ".json" in Path(place.written).suffixes or not Path(place.written).suffix


def _look_at(task: tuple[Any, Mapping[str, Any]]) -> tuple[Look, str, Mapping[str, Any]]:
    """Look at the data of a source, through the options given beside it or else those that the source suggests."""
    source, given = task
    needed = given or source.suggested()
    found = source.model_copy(update=dict(needed)).settled(files=[], versions={}, insist=False)
    return found.look(), found.pins().get("shape"), needed


def _text(
    place: _Place,
    recipe: Path,
    shape: str | None,
    look: Look,
    tokenizer: Path | None,
    needed: Mapping[str, Any],
    named: Mapping[str, str],
) -> str:
    """Write the recipe's text, with comments."""
    name = place.name
    columns = ", ".join(f"{ours} = {json.dumps(theirs)}" for ours, theirs in (named or look.columns).items())
    by_shape = f"# {look.about}\nshape = {json.dumps(shape)}\n"
    by_columns = f"columns = {{ {columns} }}\n"
    or_columns = f"# In place of a shape, columns can be named one by one: columns = {{ {columns} }}\n"
    or_columns = or_columns if look.is_plain and not named else ""
    layout = (by_shape if shape is not None else "") + (by_columns if named else "")
    unused = f"# Nothing reads: {_listed(look.unused)}\n" if look.unused else ""
    written = json.dumps(place.written, ensure_ascii=False)
    remarks = "".join(f"# {remark[0].upper()}{remark[1:]}\n" for remark in look.remarks)
    lines = "".join(f"{option} = {json.dumps(value)}\n" for option, value in needed.items())
    return f"""\
# Written by orca-recipe init. All of it may be changed; `orca-recipe check` says what is wrong with it.
name = "{name}"

[collections.{_key(name)}]
kind = "{place.kind}"
{place.option} = {written}
{lines}{remarks}{layout}# The columns of its rows: {_listed(look.found)}
{unused}{or_columns}# {_choice(look)}   # read only rows that are so
# on_bad_row = "reject"   # list rows that cannot be read and go on; by itself more than 1 % is an error

{_student(recipe, tokenizer)}
[packing]
row_tokens = 2048                # the longest example, and the length of the rows that are trained on
"""


def _listed(columns: Sequence[str]) -> str:
    """List columns, each on one line and cut short."""
    shown = [one if one.isprintable() else ascii(one)[1:-1] for one in columns[:_COLUMNS_SHOWN]]
    cut = [one if len(one) <= _NAME_CHARS else one[:_NAME_CHARS] + "..." for one in shown]
    more = f" and {len(columns) - _COLUMNS_SHOWN} more" if len(columns) > _COLUMNS_SHOWN else ""
    return ", ".join(cut) + more


def _choice(look: Look) -> str:
    """Write a `where` that these rows could have, as an example."""
    language = next((name for name in _LANGUAGES if name in look.found), None)
    if language is not None:
        return f'where = {{ {language} = "en" }}'
    if "messages" in look.columns or not look.found:
        return "where = { turns = { ge = 2 } }"
    # A long name is a text, which a file without a header has in its place.
    first = min(look.found, key=len) if len(look.found[0]) > _NAME_CHARS else look.found[0]
    key = first if _BARE_KEY.fullmatch(first) else json.dumps(first)
    return f"where = {{ {key} = {{ null = false }} }}"


def _key(name: str) -> str:
    return f'"{name}"' if "." in name else name


def _student(recipe: Path, tokenizer: Path | None) -> str:
    """Write the recipe's tables of tokenizer and template.

    Raises: TokenizerError where there is no such tokenizer.
    """
    if tokenizer is None:
        return _NO_TOKENIZER
    if _HUB_NAME.fullmatch(str(tokenizer)) and not tokenizer.parent.exists():
        return f"[tokenizer]\nmodel = {json.dumps(tokenizer.as_posix())}   # brings the template and end tokens\n"
    if not tokenizer.exists():
        raise TokenizerError(f"{tokenizer}: there is no such tokenizer; name its folder or file, or a model of the hub")
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


def _template_without_tools(tokenizer: Path | None) -> str | None:
    """Name the chat template of a folder that speaks of no tools; None where it does, or is not here to look at."""
    path = tokenizer / "chat_template.jinja" if tokenizer is not None else None
    try:
        return None if path is None or "tool" in path.read_text(encoding="utf-8", errors="replace") else str(path)
    except OSError:
        return None


def _holds(tokenizer: Path, tokens: tuple[str, ...]) -> bool:
    """Tell whether the tokenizer has all these control tokens."""
    definition = _json(tokenizer / "tokenizer.json" if tokenizer.is_dir() else tokenizer)
    added = definition.get("added_tokens")
    known = {token.get("content") for token in added if isinstance(token, dict)} if isinstance(added, list) else set()
    return set(tokens) <= known


def _json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; empty if there is none, a fault that the build reports in its own words."""
    try:
        found = json_value(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_new(path: Path, text: str) -> None:
    """Write a file that was not there, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_text(text, encoding="utf-8")
        # A link fails where the name is taken; a rename would overwrite the user's file.
        os.link(aside, path)
    except FileExistsError:
        raise SourceError(f"{path}: there is a file of this name; name another with -o, or take it away") from None
    finally:
        aside.unlink(missing_ok=True)
