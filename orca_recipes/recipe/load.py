"""A recipe file, read: TOML, what it extends, profile, `--set`, defaults, grammar and names, all faults together.

Only what makes reading on pointless (a file that is no TOML, a profile that is not there) is raised by itself; every
other fault is collected, each with the line that it was last written at.
"""

import copy
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orca_recipes.contract.kinds import Kind
from orca_recipes.contract.pieces import Offer
from orca_recipes.contract.spelling import hint, quoted
from orca_recipes.errors import Fault, RecipeError
from orca_recipes.recipe import toml_lines
from orca_recipes.recipe.choice import Chosen, Kinds
from orca_recipes.recipe.complaint import complaints
from orca_recipes.recipe.defaults import filled_in
from orca_recipes.recipe.drawn import unkept_columns
from orca_recipes.recipe.extending import KEY, Extended, extended
from orca_recipes.recipe.grammar import NAME_RULE, is_name
from orca_recipes.recipe.licences import unlicensed
from orca_recipes.recipe.measured import unmeasurable
from orca_recipes.recipe.model import Recipe
from orca_recipes.recipe.profile_layers import Layers, Origin, UnfitOverride, parse_override, unfit_values
from orca_recipes.recipe.recipe_file import read_recipe_file
from orca_recipes.recipe.references import unknown_compared, unknown_references
from orca_recipes.recipe.required import unmet
from orca_recipes.recipe.wording import described, dotted

_BROUGHT_BY: Mapping[tuple[toml_lines.Path, str], str] = {
    (("tokenizer",), "a recipe needs the table [tokenizer]"): (
        '; a chat model brings tokenizer and template: model = "ORGANISATION/NAME", or its folder, "./name"'
    ),
    (("template",), "a recipe needs the table [template]"): ", unless [tokenizer] names a model that brings one",
}
"""How to meet the two needs of a recipe that one line can meet together."""


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe and how it came about.

    resolved: the merged TOML as JSON values, after profile and --set, without profiles and without what was filled in.
    layers: where each of its values was written, for faults that only show once files are read.
    chosen: who offered the classes of its kinds. is_file: whether the recipe is a file, beside which a lock may stand.
    extends: the recipes that it is laid over, the nearest first. joined: its tables with theirs, before the profile.
    """

    recipe: Recipe
    resolved: Mapping[str, Any]
    path: Path
    profile: str | None
    overrides: tuple[str, ...]
    layers: Layers
    chosen: Mapping[type[Kind], Iterable[Offer]] = field(default_factory=dict)
    is_file: bool = True
    extends: tuple[Extended, ...] = ()
    joined: Mapping[str, Any] = field(default_factory=dict)

    @property
    def decisive(self) -> Mapping[str, Any]:
        """Return the part of `resolved` that may change the built bytes: all but the engine, which only decides how."""
        return {key: value for key, value in self.resolved.items() if key != "engine"}

    @property
    def decisive_overrides(self) -> tuple[str, ...]:
        """Return the overrides, as given, without those of the engine."""
        return tuple(text for text in self.overrides if not _is_of_engine(text))

    @property
    def engine_overrides(self) -> tuple[str, ...]:
        """Return the overrides of the engine, as given."""
        return tuple(text for text in self.overrides if _is_of_engine(text))

    def origins(self) -> Iterator[tuple[str, Any, Origin]]:
        """Tell of every value that was written: its path, the value, and the line or the `--set` that it comes from."""
        open_values: list[tuple[toml_lines.Path, Any]] = [((), self.resolved)]
        while open_values:
            path, value = open_values.pop()
            if isinstance(value, Mapping) and (value or not path):
                open_values += [((*path, key), value[key]) for key in reversed([*value])]
            elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
                open_values += [((*path, place), value[place]) for place in reversed(range(len(value)))]
            else:
                yield dotted(path), value, self.layers.origin(path)

    def fault(self, found: Sequence[tuple[toml_lines.Path, str]]) -> RecipeError:
        """Make the error of a recipe's faults, path and sentence each, with their lines."""
        return RecipeError(_in_order(_faults(found, self.layers, self.path), self.path))

    def with_line(self, sentence: str) -> str:
        """Add the line to a fault that begins with a recipe path ("rules.0.when: ..."), in the form of all recipe
        faults; return any other sentence unchanged."""
        head, colon, said = sentence.partition(": ")
        steps = head.split(".")
        known = {".".join(map(str, path)): path for path in (*self.layers.origins, *self.layers.fillings)}
        found = next((known[way] for end in range(len(steps), 0, -1) if (way := ".".join(steps[:end])) in known), None)
        if not colon or found is None:
            return sentence
        origin = self.layers.origin(found)
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
    is_file = table is None and path.is_file()
    base = Path.cwd() if table is None and not is_file else path.parent
    own = Layers(copy.deepcopy(dict(table))) if table is not None else read_recipe_file(path)
    layers, extends = extended(own, path, base, catalogue)
    joined = copy.deepcopy(layers.table) if extends else {}
    faults = _lay_over(layers, path, profile, overrides)
    if found := list(unmet(layers.table.get("requires", {}))):
        raise RecipeError(_in_order(_faults(found, layers, path), path))
    full, layers.fillings = filled_in(layers.table, catalogue)
    recipe: Recipe | None = None
    chosen: Chosen = {}
    context = {"base": base, "catalogue": catalogue, "chosen": chosen}
    try:
        # In strict mode pydantic takes a list for a tuple only from JSON.
        recipe = Recipe.model_validate_json(json.dumps(full), context=context)
    except ValidationError as fault:
        found = complaints(fault, model=Recipe, table=full, owner="a recipe")
        faults += _faults([(at, said + _BROUGHT_BY.get((at, said), "")) for at, said in found], layers, path)
    faults += _faults(unknown_references(full, catalogue), layers, path)
    if not faults and recipe is not None:
        faults += _faults(
            [*unmeasurable(recipe), *unknown_compared(recipe), *unlicensed(recipe), *unkept_columns(recipe)],
            layers,
            path,
        )
    if faults or recipe is None:
        raise RecipeError(_in_order(faults, path))
    return LoadedRecipe(recipe, layers.table, path, profile, tuple(overrides), layers, chosen, is_file, extends, joined)


def _is_of_engine(assignment: str) -> bool:
    keys, _ = parse_override(assignment)
    return keys[0] == "engine"


def _lay_over(layers: Layers, path: Path, profile: str | None, overrides: Sequence[str]) -> list[Fault]:
    """Lay the profile and each override over the recipe; return what keeps them from it."""
    table = layers.table
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
    if KEY in table:
        faults += _faults(
            [((KEY,), "is read before a profile and --set; write it at the top of the recipe")], layers, path
        )
    return faults + (_faults(unfit_values(table), layers, path) if profile is not None or overrides else [])


def _profile_faults(profiles: Any, chosen: str | None) -> Iterator[tuple[toml_lines.Path, str]]:
    """Yield the faults that keep profiles from being merged; without the chosen one, no other fault can be known."""
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


def _faults(found: Iterable[tuple[toml_lines.Path, str]], layers: Layers, path: Path) -> list[Fault]:
    origins = [(layers.origin(spot), spot, sentence) for spot, sentence in found]
    return [Fault(origin.file or str(path), origin.line, dotted(spot), text) for origin, spot, text in origins]


def _in_order(faults: Sequence[Fault], path: Path) -> list[Fault]:
    """Keep the first fault of each path and sort by line, faults of overrides after those of the file."""
    by_path: dict[tuple[str, str], Fault] = {}
    for fault in faults:
        by_path.setdefault((fault.file, fault.path), fault)
    return sorted(by_path.values(), key=lambda fault: (fault.file != str(path), fault.line))
