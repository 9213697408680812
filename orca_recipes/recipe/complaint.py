"""pydantic's errors in the words of people who write recipes.

Each error becomes a path inside the table and one sentence that says what is wrong and what would be right. pydantic
reports each arm of a union by itself and puts the arm's tag in the path; here the tags are taken out and the arms of
one value joined into one sentence.
"""

import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from orca_recipes.contract.kinds import Kind
from orca_recipes.contract.spelling import hint, nearest, quoted
from orca_recipes.contract.training_tables import Training, adapter_refusal
from orca_recipes.counted import counted
from orca_recipes.recipe.toml_lines import Path
from orca_recipes.recipe.wording import described, dotted

SETTLED = "settled"
"""The type of an error whose message is a sentence for the user already."""

_WANTED = {
    "string_type": "a text",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "int_parsing": "an integer",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "decimal_type": "a number",
    "decimal_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "iterable_type": "a list",
    "dict_type": "a table",
    "mapping_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "dataclass_type": "a table",
    "path_type": "a path, as a text",
    "url_type": "an address, as a text",
}

_BOUNDS: Mapping[str, tuple[str, str]] = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
    "multiple_of": ("a multiple of", "multiple_of"),
}


def complaints(fault: ValidationError, *, model: type[BaseModel], table: Any, owner: str) -> list[tuple[Path, str]]:
    """Turn one validation's errors into sentences, one a path.

    Args:
        model: what the table was validated by; its fields are the options that there are.
        table: what was validated.
        owner: how a sentence calls it: `source "flan"`, `a recipe`.
    Returns: path inside the table (to the missing option, where one is missing) and sentence, in pydantic's order.
    """
    groups: dict[Path, list[ErrorDetails]] = {}
    for error in fault.errors(include_url=False):
        groups.setdefault(_untagged(error, table), []).append(error)
    deeper = {path[:end] for path in groups for end in range(len(path))}
    # pydantic counts only items that are sound: a list of one that is not is "too short" as well.
    follows = {*_WANTED, "too_short"}
    speak = _Speaker(model, owner)
    return [
        (path, speak.sentence(path, errors))
        for path, errors in groups.items()
        if not (path in deeper and all(error["type"] in follows for error in errors))
    ]


class _Speaker:
    def __init__(self, model: type[BaseModel], owner: str) -> None:
        self._model = model
        self._owner = owner

    def sentence(self, path: Path, errors: Sequence[ErrorDetails]) -> str:
        """Word all errors of one path as one sentence: the arms of a union joined, else the first error that says
        something."""
        wanted = [self._wanted(path, error) for error in errors]
        if all(wanted):
            value = errors[0]["input"]
            asked = " or ".join(dict.fromkeys(want for want in wanted if want))
            advice = _advice(path, value, wanted) or self._switch(path, value)
            return f"must be {asked}, not {described(value)}{advice}"
        return self._of_one(path, next(error for error, want in zip(errors, wanted, strict=True) if not want))

    def _switch(self, path: Path, value: Any) -> str:
        """Advise to write { all = true } for "all" where a table has such an option; empty for any other value."""
        arms = _annotations(self._model, (*path, value)) if isinstance(value, str) else []
        is_switch = any(arm is bool or True in _literals(arm) for arm in arms)
        return f"; write {{ {value} = true }}" if is_switch else ""

    def _wanted(self, path: Path, error: ErrorDetails) -> str | None:
        if error["type"] in ("literal_error", "enum"):
            return self._choices(path, error)
        return _WANTED.get(error["type"])

    def _choices(self, path: Path, error: ErrorDetails) -> str:
        choices = [choice for annotation in _annotations(self._model, path) for choice in _literals(annotation)]
        if not choices:
            return str(error.get("ctx", {}).get("expected", "one of the choices"))
        shown = [quoted(choice) if isinstance(choice, str) else described(choice) for choice in choices]
        value = error["input"]
        near = (
            nearest(value, [choice for choice in choices if isinstance(choice, str)])
            if isinstance(value, str)
            else None
        )
        if near is not None:
            shown.sort(key=lambda choice: choice != quoted(near))
        return shown[0] if len(shown) == 1 else f"one of {', '.join(shown)}"

    def _of_one(self, path: Path, error: ErrorDetails) -> str:
        kind, context = error["type"], error.get("ctx", {})
        by_type: dict[str, Callable[[], str]] = {
            SETTLED: lambda: error["msg"],
            "extra_forbidden": lambda: self._unknown(path, error["input"]),
            "missing": lambda: f"{self._called(path[:-1])} needs {self._option(path)}",
            "union_tag_invalid": lambda: _of_tag(context),
            "union_tag_not_found": lambda: f"needs the option {_requoted(context.get('discriminator'))}",
            "value_error": lambda: str(context.get("error", error["msg"])),
            "assertion_error": lambda: str(context.get("error", error["msg"])),
            "too_short": lambda: f"must hold at least {counted(context['min_length'], 'item')}",
            "too_long": lambda: f"must hold at most {counted(context['max_length'], 'item')}",
            "string_too_short": lambda: f"must have at least {counted(context['min_length'], 'character')}",
            "string_too_long": lambda: f"must have at most {counted(context['max_length'], 'character')}",
            "string_pattern_mismatch": lambda: (
                f"must match the pattern {context.get('pattern')}, and {described(error['input'])} does not"
            ),
        }
        if kind in by_type:
            return by_type[kind]()
        if kind in _BOUNDS:
            words, bound = _BOUNDS[kind]
            return f"must be {words} {context.get(bound)}, not {error['input']}"
        return error["msg"].replace("Input should be", "must be")

    def _unknown(self, path: Path, value: Any) -> str:
        name = str(path[-1])
        refusal = adapter_refusal(name) if {"training", "model"} & {*path[:-1]} else None
        if refusal is not None:
            return refusal
        if path[:1] == ("curriculum",) and path[-2:-1] == ("training",) and name in Training.model_fields:
            return f"{quoted(name)} holds for all phases; set it in the recipe's [training]"
        options = _options(self._model, path[:-1])
        noun = "table" if self._is_whole_recipe(path) and isinstance(value, dict | list) else "option"
        return f"{self._called(path[:-1])} has no {noun} {quoted(name)}{hint(name, options)}"

    def _option(self, path: Path) -> str:
        if self._is_whole_recipe(path) and not any(found is str for found in _annotations(self._model, path)):
            return f"the table [{dotted(path)}]"
        return f"the option {quoted(str(path[-1]))}"

    def _is_whole_recipe(self, path: Path) -> bool:
        return len(path) == 1 and not issubclass(self._model, Kind)

    def _called(self, path: Path) -> str:
        if not path:
            return self._owner
        return f"{quoted(dotted(path))} of {self._owner}" if issubclass(self._model, Kind) else dotted(path)


def _advice(path: Path, value: Any, wanted: Sequence[str | None]) -> str:
    """Advise to write [[name]] for a list of tables that was written as one table; empty for any other value."""
    if isinstance(value, dict) and "a list" in wanted and path and isinstance(path[-1], str):
        return f"; a list of tables is written [[{path[-1]}]]"
    return ""


def _of_tag(context: Mapping[str, Any]) -> str:
    """Word the complaint about a tagged table with an unknown tag."""
    option = _requoted(context.get("discriminator"))
    return f"{option} must be one of {_requoted(context.get('expected_tags'))}, not {_requoted(context.get('tag'))}"


def _requoted(shown: Any) -> str:
    """Quote names as we do where pydantic quotes them."""
    return str(shown).replace("'", '"') if "'" in str(shown) else quoted(str(shown))


def _untagged(error: ErrorDetails, table: Any) -> Path:
    """Return the error's path in the table itself, without the union tags and key marks that pydantic adds."""
    loc = error["loc"]
    path: Path = ()
    here = table
    for place, step in enumerate(loc):
        is_absent = place == len(loc) - 1 and error["type"] in ("missing", SETTLED)
        if isinstance(here, dict) and (step in here or is_absent):
            path, here = (*path, step), here.get(step)
        elif isinstance(here, list | tuple) and isinstance(step, int) and step < len(here):
            path, here = (*path, step), here[step]
    return path


def _options(model: type[BaseModel], path: Path) -> list[str]:
    models = [found for found in _annotations(model, path) if inspect.isclass(found) and issubclass(found, BaseModel)]
    return [field.alias or name for found in models for name, field in found.model_fields.items()]


def _annotations(model: type[BaseModel], path: Path) -> list[Any]:
    """List the types allowed at a path of a model, each arm of a union by itself."""
    here: list[Any] = [model]
    for step in path:
        here = [inner for outer in here for inner in _within(outer, step)]
    return here


def _within(annotation: Any, step: str | int) -> Iterator[Any]:
    arguments = get_args(annotation)
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            if step in (name, field.alias):
                yield from _arms(field.annotation)
    elif arguments and isinstance(step, int):
        yield from _arms(arguments[min(step, len(arguments) - 1)] if arguments[-1] is not Ellipsis else arguments[0])
    elif arguments and inspect.isclass(get_origin(annotation)) and issubclass(get_origin(annotation), Mapping):
        yield from _arms(arguments[-1])


def _arms(annotation: Any) -> Iterator[Any]:
    if hasattr(annotation, "__value__"):  # `type X = ...`
        yield from _arms(annotation.__value__)
    elif get_origin(annotation) is Annotated:
        yield from _arms(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for arm in get_args(annotation):
            yield from _arms(arm)
    else:
        yield annotation


def _literals(annotation: Any) -> tuple[Any, ...]:
    if inspect.isclass(annotation) and hasattr(annotation, "__members__"):
        return tuple(member.value for member in annotation.__members__.values())
    return get_args(annotation) if get_origin(annotation) is Literal else ()
