"""One Natural Instructions v2 task file, checked field by field.

A task file is one JSON object, so it is read whole. What a question cannot do without (the definition, the list of
instances) makes the file bad; a bad instance only makes its own row bad.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orca_recipes.contract.frames import rejected_rows_schema
from orca_recipes.contract.kinds import SourceFile
from orca_recipes.contract.spelling import quoted
from orca_recipes.errors import SourceError

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class TaskFile:
    """The fields of one task that its questions need; `instances` are unchecked."""

    definition: str
    category: str | None
    language: str | None
    reasoning: str | None
    examples: Sequence[tuple[str, str]]
    instances: Sequence[Any]


def read_task(file: SourceFile, *, examples: int) -> TaskFile:
    """Read a task file and as many of its positive examples as asked for and there.

    Raises: SourceError, naming the file and the field.
    """
    task = _parsed(file)
    if not isinstance(task, dict):
        raise SourceError(f'{file.name}: is not a task file: a JSON object with "Definition" and "Instances" is wanted')
    definition = _first_text(file, task, "Definition")
    if definition is None:
        raise SourceError(f'{file.name}: field "Definition" is missing')
    return TaskFile(
        definition=definition.strip(),
        category=_first_text(file, task, "Categories"),
        language=_told(task, "Input_language"),
        reasoning=_told(task, "Reasoning"),
        examples=_examples(file, task, examples),
        instances=_field(file, task, "Instances", list, "a list"),
    )


def read_instances(instances: Sequence[Any], *, first_place: int) -> tuple[pl.DataFrame, pl.DataFrame, int]:
    """Read instances as columns, and those that are none.

    Returns: place, id (null in files of the old schema), input (without white space at its ends), references (all
        outputs that are not empty, as they are); `frames.REJECTED_ROWS`; and how many empty outputs were left out.
    """
    import polars as pl

    placed, misshapen = _as_column(list(enumerate(instances, start=first_place)))
    fields = pl.col("instance").struct
    rows = placed.select(
        "place",
        id=fields.field("id"),
        input=fields.field("input").str.strip_chars(),
        references=fields.field("output"),
    ).with_columns(reason=_empty_fields())
    empty = rows.filter(pl.col("reason").is_not_null()).select("place", "reason")
    kept = rows.filter(pl.col("reason").is_null()).drop("reason")
    told = kept.with_columns(pl.col("references").list.eval(pl.element().filter(~_is_blank(pl.element()))))
    left_out = int(kept["references"].list.len().sum()) - int(told["references"].list.len().sum())
    return told, pl.concat([misshapen, empty]).sort("place"), left_out


_TWICE = object()
"""The key under which a parsed object holds the names that were given twice: no JSON key equals it."""


def _object(pairs: list[tuple[str, Any]]) -> dict[Any, Any]:
    # Python's json keeps the last of two equal keys and says nothing; which one was meant cannot be known.
    found: dict[Any, Any] = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        found[_TWICE] = {name for name in found if names.count(name) > 1}
    return found


def _parsed(file: SourceFile) -> Any:
    try:
        # utf-8-sig drops a byte order mark, which editors add and json.loads refuses.
        return json.loads(_bytes(file).decode("utf-8-sig"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise SourceError(f"{file.name}: is not UTF-8 (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise SourceError(f"{file.name}:{error.lineno}: is not JSON: {error.msg}") from error
    except RecursionError as error:
        raise SourceError(f"{file.name}: is not a task file: its brackets are nested too deep") from error
    except ValueError as error:  # an integer of thousands of digits
        raise SourceError(f"{file.name}: is not a task file: {error}") from error


def _bytes(file: SourceFile) -> bytes:
    try:
        content = file.path.read_bytes()
        return gzip.decompress(content) if file.path.suffix == ".gz" else content
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(f"{file.name}: is not a whole gzip file: {error}") from error
    except OSError as error:
        raise SourceError(f"{file.name}: cannot be read: {error.strerror or error}") from error


def _as_column(placed: Sequence[tuple[int, Any]]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return place and instance {id, input, output} of those that fit the type, and reasons for the others."""
    import polars as pl

    reasons: list[tuple[int, str]] = []
    column = _converted([instance for _, instance in placed])
    if column is None:
        # Something does not fit, and Arrow does not say which record: only now is each one looked at.
        looked = [(place, instance, _misfit(instance)) for place, instance in placed]
        reasons = [(place, reason) for place, _, reason in looked if reason is not None]
        placed = [(place, _listed(instance)) for place, instance, reason in looked if reason is None]
        column = _converted([instance for _, instance in placed])
    frame = pl.DataFrame({"place": pl.Series([place for place, _ in placed], dtype=pl.Int64), "instance": column})
    return frame, _rejected(reasons)


def _converted(instances: Sequence[Any]) -> pl.Series | None:
    """Return instances as one column, None where any of them does not fit."""
    import polars as pl
    import pyarrow as pa

    text = pa.large_string()
    wanted = pa.struct([pa.field("id", text), pa.field("input", text), pa.field("output", pa.large_list(text))])
    if not all(_is_plain(instance) for instance in instances):
        return None
    try:
        return pl.Series(pa.array(instances, type=wanted))
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):
        return None


def _is_plain(instance: Any) -> bool:
    """Tell whether Arrow would not misread an instance: it takes [] for an object without fields, and a text for a list
    of letters."""
    return isinstance(instance, dict) and isinstance(instance.get("output", []), list) and _TWICE not in instance


def _rejected(reasons: Sequence[tuple[int, str]]) -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame(list(reasons), schema=rejected_rows_schema(), orient="row")


def _misfit(instance: Any) -> str | None:
    """Return why an instance does not fit the type, None if it does; missing and empty fields are found in columns."""
    if not isinstance(instance, dict):
        return "not an object"
    for name in ("id", "input", "output"):
        if name in instance.get(_TWICE, ()):
            return f"{name}: given twice"
    for name in ("id", "input"):
        value = instance.get(name)
        fault = value is not None and not _is_whole(value) and _text_fault(name, [value])
        if fault:
            return fault
    output = instance.get("output")
    outputs = output if isinstance(output, list) else [output]
    return _text_fault("output", [text for text in outputs if text is not None and not _is_whole(text)])


def _listed(instance: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Return the instance with its output as a list, if it has one; whole numbers become their digits."""
    output = instance.get("output")
    outputs = output if isinstance(output, list) else [] if output is None else [output]
    told = {name: _digits(value) for name, value in instance.items() if name != "output"}
    return told if output is None else {**told, "output": [_digits(value) for value in outputs]}


def _digits(value: Any) -> Any:
    return str(value) if _is_whole(value) else value


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _empty_fields() -> pl.Expr:
    """Build the reason to reject an instance that fits the type, null where it can be used."""
    import polars as pl

    blank = pl.col("references").list.eval(_is_blank(pl.element())).list.all()
    faults = {
        "input: missing": pl.col("input").is_null(),
        "output: missing": pl.col("references").is_null(),
        "output: not a text": pl.col("references").list.eval(pl.element().is_null()).list.any(),
        "id: empty": pl.col("id").str.strip_chars() == "",
        "output: empty": (pl.col("references").list.len() == 0) | blank,
    }
    return pl.coalesce(pl.when(fault).then(pl.lit(reason)) for reason, fault in faults.items())


def _is_blank(text: pl.Expr) -> pl.Expr:
    return text.str.strip_chars() == ""


def _field(file: SourceFile, task: Mapping[Any, Any], name: str, wanted: type, words: str) -> Any:
    if name not in task:
        raise SourceError(f"{file.name}: field {quoted(name)} is missing")
    if name in task.get(_TWICE, ()):
        raise SourceError(f"{file.name}: field {quoted(name)} is given twice")
    if not isinstance(task[name], wanted):
        raise SourceError(f"{file.name}: field {quoted(name)} must be {words}")
    return task[name]


def _first_text(file: SourceFile, task: Mapping[Any, Any], name: str) -> str | None:
    """Return the first of a list of texts (old files hold one text), None where the field is missing or an empty
    list."""
    if name not in task or task[name] == []:
        return None
    value = _field(file, task, name, (str, list), "a list of texts")  # type: ignore[arg-type]
    texts = [value] if isinstance(value, str) else value
    fault = _text_fault(f"{file.name}: field {quoted(name)}", texts)
    if fault is not None:
        raise SourceError(fault)
    return str(texts[0])


def _told(task: Mapping[Any, Any], name: str) -> str | None:
    """Return the first text of a list that no question needs; None for anything else."""
    value = task.get(name)
    first = value[0] if isinstance(value, list) and value else None
    return (
        first if isinstance(first, str) and first and name not in task.get(_TWICE, ()) and _is_unicode(first) else None
    )


def _examples(file: SourceFile, task: Mapping[Any, Any], count: int) -> Sequence[tuple[str, str]]:
    if count == 0 or "Positive Examples" not in task:
        return []
    chosen = _field(file, task, "Positive Examples", list, "a list")[:count]
    return [
        _example(f'{file.name}: field "Positive Examples"[{place}]', example) for place, example in enumerate(chosen)
    ]


def _example(where: str, example: Any) -> tuple[str, str]:
    if not isinstance(example, dict):
        raise SourceError(f"{where} must be an object")
    # Some files give an example's output as a list, as instances have it; the first is shown.
    output = example.get("output")
    output = output[0] if isinstance(output, list) and output else output
    for name, value in (("input", example.get("input")), ("output", output)):
        fault = _text_fault(f"{where}.{name}", [value])
        if fault is not None:
            raise SourceError(fault)
    return str(example["input"]).strip(), str(output).strip()


def _text_fault(where: str, values: Sequence[Any]) -> str | None:
    if not all(isinstance(value, str) for value in values):
        return f"{where}: not a text"
    if not all(value.isascii() or _is_unicode(value) for value in values):
        return f"{where}: holds half a surrogate pair"
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
