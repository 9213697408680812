"""One recipe file, read as TOML: its tables, and the line of every value."""

import re
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

from orca_recipes.contract.toml_text import toml_table
from orca_recipes.errors import Fault, RecipeError
from orca_recipes.recipe import toml_lines
from orca_recipes.recipe.profile_layers import Layers, Origin


def read_recipe_file(path: Path) -> Layers:
    """Read a file. Raises: RecipeError where it cannot be read, or is not TOML."""
    text = _text(path)
    table = _parsed(text, path)
    return Layers(table, partial(_origins, text, str(path)))


def _origins(text: str, file: str) -> dict[toml_lines.Path, Origin]:
    return {spot: Origin(file, line) for spot, line in toml_lines.key_lines(text).items()}


def _text(path: Path) -> str:
    try:
        # Editors of Windows begin a file with a byte order mark, which tomllib refuses.
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = fault.object[: fault.start].count(b"\n") + 1
        raise _alone(path, line, "is not valid UTF-8, and TOML must be; save the file as UTF-8") from fault
    except FileNotFoundError as fault:
        hint = "; standard input is /dev/stdin" if str(path) == "-" else ""
        raise _alone(path, 0, f"there is no such recipe{hint}") from fault
    except OSError as fault:
        raise _alone(path, 0, f"cannot be read: {fault.strerror}") from fault


def _parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        return toml_table(text)
    except tomllib.TOMLDecodeError as fault:
        said, line = _syntax_fault(str(fault), text)
        raise _alone(path, line, f"is not TOML: {said}") from fault
    except RecursionError as fault:
        raise _alone(path, 0, "is not a recipe: its values are nested too deep") from fault
    except ValueError as fault:  # an integer of more digits than Python reads
        raise _alone(path, 0, f"is not a recipe: {fault}") from fault


def _syntax_fault(said: str, text: str) -> tuple[str, int]:
    """Take tomllib's sentence and line apart."""
    found = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", said, re.DOTALL)
    if found is None:
        return said, 0
    return found[1], int(found[2]) if found[2] else text.rstrip().count("\n") + 1


def _alone(path: Path, line: int, sentence: str) -> RecipeError:
    return RecipeError([Fault(str(path), line, "", sentence)])
