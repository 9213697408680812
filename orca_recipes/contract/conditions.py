"""The words by which rows are chosen: `where` of a collection, and of a rule's `when`.

A table of columns and what their values must be, all of which hold; `any` is a list of such tables one of which holds,
`not` one that does not. Absent and null values are equal to nothing, match nothing and compare with nothing, so that
`not` lets them through. Numbers are compared as 64-bit floats, whatever type a file stores them as.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue

from orca_recipes.contract.spelling import hint, quoted

if TYPE_CHECKING:
    import polars as pl

Sort = Literal["text", "number", "flag", "any", "messages"]
"""What a condition asks of a column: texts, numbers, true or false, nothing but to be there, or a conversation."""

EXTRA = "extra."
"""How a column is called that a source keeps as it is."""
_COMPARED = ("ge", "gt", "le", "lt")
_OPERATIONS = ("eq", "in", "matches", *_COMPARED, "null", "turns", "role")
# polars' patterns are Rust's, without look-around or back references; re would pass them.
_LOOKS_AROUND = re.compile(r"\(\?(?:[=!]|<[=!]|P=)|\\[1-9]")
_WORDS: Mapping[Sort, str] = {
    "text": "text",
    "number": "a number",
    "flag": "true or false",
    "any": "any value",
    "messages": "messages",
}


@dataclass(frozen=True)
class Condition:
    """A test of one column: operation and value, as the recipe writes them."""

    column: str
    operation: str
    value: Any

    @property
    def sort(self) -> Sort:
        """Return the type of column that the condition needs."""
        if self.operation in ("turns", "role"):
            return "messages"
        if self.operation == "null":
            return "any"
        return _sort_of(self.value[0] if self.operation == "in" else self.value)


@dataclass(frozen=True)
class Choice:
    """Combines conditions: all of them, at least one (`any`), or not all (`not`)."""

    word: Literal["all", "any", "not"]
    parts: tuple[Choice | Condition, ...]

    def conditions(self) -> Iterator[Condition]:
        """Yield all conditions, in the order of the recipe."""
        for part in self.parts:
            yield from [part] if isinstance(part, Condition) else part.conditions()

    def sorts(self) -> dict[str, Sort]:
        """Map each column to the type that its conditions need.

        Raises: ValueError where a column is asked to be two things.
        """
        found: dict[str, Sort] = {}
        for condition in self.conditions():
            column, sort = condition.column, condition.sort
            before = found.get(column, "any")
            both = {before, sort}
            if both == {"messages", "text"} and condition.operation in ("matches", "turns", "role"):
                found[column] = "messages"
            elif "any" in both or before == sort:
                found[column] = before if sort == "any" else sort
            else:
                raise ValueError(f"{column} is compared with {_WORDS[before]} and with {_WORDS[sort]}; keep one")
        return found


def parsed(table: Mapping[str, Any]) -> Choice:
    """Parse a `where` table of the recipe. Raises: ValueError with a sentence."""
    if not table:
        raise ValueError('name a column and what it must be: where = { language = "en" }')
    parts: list[Choice | Condition] = []
    for name, said in table.items():
        if name == "any" and isinstance(said, list | tuple):
            if not said:
                raise ValueError("any: a list of tables, one of which must hold; it is empty")
            parts.append(Choice("any", tuple(_inner("any", one) for one in said)))
        elif name == "not":
            parts.append(Choice("not", (_inner("not", said),)))
        else:
            parts += _conditions(name, said)
    choice = Choice("all", tuple(parts))
    choice.sorts()
    return choice


def told(sort: Sort) -> str:
    """Return a sort in words: "a number"."""
    return _WORDS[sort]


def holding(choice: Choice, rows: pl.DataFrame) -> pl.Series:
    """Test each row by a choice: Boolean [rows].

    Args:
        rows: its columns by name: String, Float64 or Boolean, as `sorts` says; of one that is only asked to be there
            any type; messages are a list of structs with role and content.
    """
    import polars as pl

    masks = [_mask(part, rows) for part in choice.parts]
    if choice.word == "any":
        return reduce(pl.Series.__or__, masks)
    both = reduce(pl.Series.__and__, masks)
    return ~both if choice.word == "not" else both


def chosen(choice: Choice, rows: pl.DataFrame) -> pl.Series:
    """Test each example or conversation by a choice: Boolean [rows].

    Args:
        rows: with the columns that the choice names, or with `extra` (`frames.extra_type`) for those that a source
            keeps as they are.
    """
    import polars as pl

    inner = pl.element().struct
    columns = [
        pl.col("extra")
        .list.eval(inner.field("value").filter(inner.field("name") == name.removeprefix(EXTRA)))
        .list.first()
        .alias(name)
        if name.startswith(EXTRA)
        else pl.col(name)
        for name in choice.sorts()
    ]
    return holding(choice, rows.select(columns))


def unfit_pattern(choice: Choice) -> str | None:
    """Return a sentence about the first pattern that polars cannot compile; None where all are well."""
    import polars as pl

    for condition in choice.conditions():
        if condition.operation == "matches":
            try:
                pl.Series([""]).str.contains(condition.value)
            except pl.exceptions.ComputeError:
                return f"where: {quoted(condition.value)} is a pattern that is not read here"
    return None


def require_pattern(column: str, pattern: str) -> None:
    """Refuse a pattern that no engine of columns reads. Raises: ValueError, which names the column."""
    if _LOOKS_AROUND.search(pattern):
        raise ValueError(f"{column}: {quoted(pattern)} looks around or back, which patterns of columns cannot")
    try:
        re.compile(pattern)
    except re.error as fault:
        raise ValueError(f"{column}: {quoted(pattern)} is no pattern: {fault}") from None


def _inner(word: str, said: Any) -> Choice:
    if not isinstance(said, Mapping):
        raise ValueError(f'{word}: tables of columns and what they must be, such as {{ language = "en" }}')
    return parsed(said)


def _conditions(column: str, said: Any) -> Iterator[Condition]:
    if not isinstance(said, Mapping):
        if isinstance(said, list | tuple) or said is None:
            raise ValueError(f"{column}: for one of several values say {{ in = [...] }}")
        yield Condition(column, "eq", said)
        return
    if not said:
        raise ValueError(f"{column}: say what it must be; there is {', '.join(_OPERATIONS)}")
    for operation, value in said.items():
        if operation not in _OPERATIONS:
            raise ValueError(f"{column}: there is no {quoted(operation)}{hint(operation, _OPERATIONS)}")
        _require_fit(column, operation, value)
        yield Condition(column, operation, tuple(value) if isinstance(value, list) else value)


def _require_fit(column: str, operation: str, value: Any) -> None:
    """Refuse a value that an operation says nothing with. Raises: ValueError."""
    wants, is_fit = _wanted_value(operation, value)
    if not is_fit:
        raise ValueError(f"{column}: {operation} wants {wants}")
    if operation == "matches":
        require_pattern(column, value)
    if operation == "turns":
        # A generator checks nothing until it is read.
        for _ in _turns(column, value):
            pass


def _wanted_value(operation: str, value: Any) -> tuple[str, bool]:
    """Return the kind of value an operation wants, in words, and whether this value fits."""
    match operation:
        case "in":
            alike = isinstance(value, list | tuple) and bool(value) and all(map(_is_plain, value))
            return "a list of values of one type", alike and len({_sort_of(item) for item in value}) == 1
        case "matches" | "role":
            return "a text", isinstance(value, str) and bool(value)
        case "null":
            return "true or false", isinstance(value, bool)
        case "turns":
            return "a number of answers, or a table such as { ge = 2 }", _is_count(value) or isinstance(value, Mapping)
        case "eq":
            return "text, a number, or true or false", _is_plain(value)
    return "a number", _is_plain(value) and _sort_of(value) == "number"


def _turns(column: str, value: Any) -> Iterator[Condition]:
    """Yield the conditions on a conversation's number of answers."""
    for condition in _conditions(column, value):
        if condition.sort != "number":
            raise ValueError(f"{column}: turns wants a number of answers, or a table such as {{ ge = 2 }}")
        yield condition


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)


def _is_count(value: Any) -> bool:
    # True and False are ints in Python.
    return isinstance(value, int) and not isinstance(value, bool)


def _sort_of(value: Any) -> Sort:
    # Asked before numbers, as True and False are ints in Python.
    if isinstance(value, bool):
        return "flag"
    return "text" if isinstance(value, str) else "number"


def _mask(part: Choice | Condition, rows: pl.DataFrame) -> pl.Series:
    import polars as pl

    if isinstance(part, Choice):
        return holding(part, rows)
    column = rows[part.column]
    if isinstance(column.dtype, pl.List):
        return _of_messages(part, column)
    return _compared(column, part.operation, part.value).fill_null(value=False)


def _compared(column: pl.Series, operation: str, value: Any) -> pl.Series:
    match operation:
        case "null":
            return column.is_null() if value else column.is_not_null()
        case "in":
            return column.is_in(list(value) if _sort_of(value[0]) != "number" else [float(item) for item in value])
        case "matches":
            return column.str.contains(value)
        case "ge" | "gt" | "le" | "lt":
            return {"ge": column.__ge__, "gt": column.__gt__, "le": column.__le__, "lt": column.__lt__}[operation](
                float(value)
            )
    return column == (float(value) if _sort_of(value) == "number" else value)


def _of_messages(part: Condition, column: pl.Series) -> pl.Series:
    """Test each conversation by a condition on its messages: Boolean [conversations]."""
    import polars as pl

    if part.operation == "null":
        return column.is_null() if part.value else column.is_not_null()
    flat = pl.DataFrame({"row": pl.int_range(len(column), eager=True), "turn": column}).explode("turn").unnest("turn")
    if part.operation == "turns":
        answers = flat.filter(pl.col("role") == "assistant")["row"].value_counts()
        joined = pl.DataFrame({"row": pl.int_range(len(column), eager=True)}).join(
            answers, on="row", how="left", maintain_order="left"
        )
        counts = joined["count"].fill_null(0).cast(pl.Float64)
        masks = [_compared(counts, said.operation, said.value) for said in _turns(part.column, part.value)]
        return reduce(pl.Series.__and__, masks) & column.is_not_null()
    tells = pl.col("content").str.contains(part.value) if part.operation == "matches" else pl.col("role") == part.value
    found = flat.filter(tells)["row"].unique()
    return pl.int_range(len(column), eager=True).is_in(found.implode())


def _checked(table: Mapping[str, Any]) -> Mapping[str, Any]:
    parsed(table)
    return table


Where = Annotated[
    Mapping[str, JsonValue] | None,
    AfterValidator(lambda table: None if table is None else _checked(table)),
    Field(
        description='rows that are read, by column of the file: { lang = "en", score = { ge = 0.5 }, tag = { in = '
        '[...] }, text = { matches = "RE" }, x = { null = true } }; any = [{...}, {...}], not = {...}; of messages '
        'also turns = { ge = 2 } and role = "tool"; all others are counted'
    ),
]
"""An option that chooses rows by their columns."""
