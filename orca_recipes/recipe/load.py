"""A recipe file, read: TOML, profile, `--set`, defaults, grammar and names, with all faults shown together.

Only what makes reading on pointless (a file that is no TOML, a profile that is not there) is raised by itself; every
other fault is collected, each with the line that it was last written at.
"""

import copy
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orca_recipes.contract.kinds import Kind
from orca_recipes.contract.pieces import Offer
from orca_recipes.contract.spelling import hint, quoted
from orca_recipes.contract.toml_text import toml_table
from orca_recipes.errors import Fault, RecipeError
from orca_recipes.recipe import toml_lines
from orca_recipes.recipe.choice import Chosen, Kinds
from orca_recipes.recipe.complaint import complaints
from orca_recipes.recipe.defaults import filled_in
from orca_recipes.recipe.grammar import NAME_RULE, is_name
from orca_recipes.recipe.measured import unmeasurable
from orca_recipes.recipe.model import Recipe
from orca_recipes.recipe.profile_layers import Layers, Origin, UnfitOverride, parse_override, unfit_values
from orca_recipes.recipe.references import unknown_compared, unknown_references
from orca_recipes.recipe.required import unmet
from orca_recipes.recipe.words import described, dotted


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe and how it came about.

    resolved: the merged TOML as JSON values, after profile and --set, without profiles and without what was filled in.
    layers: where each of its values was written, for faults that only show once files are read.
    chosen: who offered the classes of its kinds. is_file: whether the recipe is a file, beside which a lock may stand.
    """

    recipe: Recipe
    resolved: Mapping[str, Any]
    path: Path
    profile: str | None
    overrides: tuple[str, ...]
    layers: Layers
    chosen: Mapping[type[Kind], Iterable[Offer]] = field(default_factory=dict)
    is_file: bool = True

    @property
    def decisive(self) -> Mapping[str, Any]:
        """What of `resolved` may decide what is built: all but the engine, which only decides how."""
        return {key: value for key, value in self.resolved.items() if key != "engine"}

    @property
    def decisive_overrides(self) -> tuple[str, ...]:
        """The overrides, as given, without those of the engine."""
        return tuple(text for text in self.overrides if not _is_of_engine(text))

    @property
    def engine_overrides(self) -> tuple[str, ...]:
        """The overrides of the engine, as given."""
        return tuple(text for text in self.overrides if _is_of_engine(text))

    def fault(self, found: Sequence[tuple[toml_lines.Path, str]]) -> RecipeError:
        """Faults of the recipe, path and sentence each, with their lines."""
        return RecipeError(_in_order(_faults(found, self.layers, self.path), self.path))

    def with_line(self, sentence: str) -> str:
        """A fault that begins with a path of the recipe ("rules.0.when: ..."), as all faults of a recipe are told: with
        the line where that was written. Any other as it is."""
        head, colon, said = sentence.partition(": ")
        steps = head.split(".")
        known = {".".join(map(str, path)): path for path in self.layers.origins}
        found = next((known[way] for end in range(len(steps), 0, -1) if (way := ".".join(steps[:end])) in known), None)
        if not colon or found is None:
            return sentence
        origin = self.layers.origins[found]
        return str(Fault(origin.file, origin.line, head, said))


def load_recipe(
    path: Path,
    *,
    catalogue: Kinds,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    table: Mapping[str, Any] | None = None,
) -> LoadedRecipe:
    """Read a recipe through the catalogue.

    Args:
        path: the TOML file; relative paths in it are relative to its folder, and to the current one where it is a pipe
            (`/dev/stdin`), beside which no lock is read or written.
        profile: merged deep into the recipe.
        overrides: `path.to.key=value`, set after the profile, in order.
        table: the recipe itself, in place of the file's; `path` then only says where relative paths begin, and what
            faults call it.
    Raises: RecipeError with all faults in order of line, those of overrides last.
    """
    path = Path(path)
    layers, faults = _layered(path, profile, overrides, table)
    if found := list(unmet(layers.table.get("requires", {}))):
        raise RecipeError(_in_order(_faults(found, layers, path), path))
    resolved = copy.deepcopy(layers.table)
    full, named = filled_in(layers.table, catalogue)
    layers.origins |= {made: layers.origin(by) for made, by in named.items()}
    recipe: Recipe | None = None
    chosen: Chosen = {}
    is_file = table is None and path.is_file()
    base = Path.cwd() if table is None and not is_file else path.parent
    context = {"base": base, "catalogue": catalogue, "chosen": chosen}
    try:
        recipe = Recipe.model_validate_json(json.dumps(full), context=context)
    except ValidationError as fault:
        faults += _faults(complaints(fault, model=Recipe, table=full, owner="a recipe"), layers, path)
    faults += _faults(unknown_references(full, catalogue), layers, path)
    if not faults and recipe is not None:
        faults += _faults([*unmeasurable(recipe), *unknown_compared(recipe)], layers, path)
    if faults or recipe is None:
        raise RecipeError(_in_order(faults, path))
    return LoadedRecipe(recipe, resolved, path, profile, tuple(overrides), layers, chosen, is_file)


def _is_of_engine(assignment: str) -> bool:
    keys, _ = parse_override(assignment)
    return keys[0] == "engine"


def _layered(
    path: Path, profile: str | None, overrides: Sequence[str], given: Mapping[str, Any] | None
) -> tuple[Layers, list[Fault]]:
    if given is None:
        text = _text(path)
        table = _parsed(text, path)
        layers = Layers(table, {spot: Origin(str(path), line) for spot, line in toml_lines.key_lines(text).items()})
    else:
        table = copy.deepcopy(dict(given))
        layers = Layers(table, {})
    faults = _faults(unfit_values(table), layers, path)
    of_profiles = list(_profile_faults(table.get("profiles", {}), profile))
    faults += _faults(of_profiles, layers, path)
    if of_profiles:
        raise RecipeError(_in_order(faults, path))
    layers.lay_profile(profile)
    for assignment in overrides:
        try:
            layers.lay_override(assignment)
        except UnfitOverride as fault:
            faults.append(Fault(f"--set {assignment}", 0, "", str(fault)))
    return layers, faults + _faults(unfit_values(layers.table), layers, path)


def _profile_faults(profiles: Any, chosen: str | None) -> Iterator[tuple[toml_lines.Path, str]]:
    """What keeps profiles from being merged; without the chosen one, whatever else is wrong cannot be known."""
    if not isinstance(profiles, dict):
        yield ("profiles",), f"must hold tables, [profiles.NAME], and is {described(profiles)}"
        return
    for name, profile in profiles.items():
        if not is_name(name):
            yield ("profiles", name), NAME_RULE
        elif not isinstance(profile, dict):
            yield ("profiles", name), f"must be a table, not {described(profile)}"
    if chosen is not None and chosen not in profiles:
        yield ("profiles",), f"there is no profile {quoted(chosen)}{hint(chosen, profiles)}"


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = fault.object[: fault.start].count(b"\n") + 1
        raise _alone(path, line, "is not valid UTF-8, and TOML must be; save the file as UTF-8") from fault
    except FileNotFoundError as fault:
        raise _alone(path, 0, "there is no such recipe") from fault
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
    """tomllib's sentence and line, taken apart."""
    found = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", said, re.DOTALL)
    if found is None:
        return said, 0
    return found[1], int(found[2]) if found[2] else text.rstrip().count("\n") + 1


def _alone(path: Path, line: int, sentence: str) -> RecipeError:
    return RecipeError([Fault(str(path), line, "", sentence)])


def _faults(found: Iterable[tuple[toml_lines.Path, str]], layers: Layers, path: Path) -> list[Fault]:
    origins = [(layers.origin(spot), spot, sentence) for spot, sentence in found]
    return [Fault(origin.file or str(path), origin.line, dotted(spot), text) for origin, spot, text in origins]


def _in_order(faults: Sequence[Fault], path: Path) -> list[Fault]:
    """One fault a path (the first found), by line; faults of overrides after those of the file."""
    by_path: dict[tuple[str, str], Fault] = {}
    for fault in faults:
        by_path.setdefault((fault.file, fault.path), fault)
    return sorted(by_path.values(), key=lambda fault: (fault.file != str(path), fault.line))
