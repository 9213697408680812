"""Names in the exports of FLAN-v2: columns, files, submixes.

The same rows were exported many times, under two sets of column names, as one data set a submix or one file for each
submix and template. What a file's name says is believed; the rest is looked for in columns.
"""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as package_files
from typing import Any, Literal

from orca_plugins.sources.files.columns import shown

Submix = Literal["cot", "dialog", "flan2021", "niv2", "t0"]
WITHOUT_OPTIONS = frozenset({"flan2021", "t0"})
"""Submixes that were also rendered without their answer options."""

_NAMED = re.compile(r"(?:^|[/_-])(cot|dialog|flan2021|flan|niv2|t0)_?(zs|fs)_?(opt|noopt)(?=[_./-]|$)")


@dataclass(frozen=True)
class Said:
    """Submix and template type in a file's name, None where it does not say one."""

    submix: str | None
    template: str | None


@cache
def layout() -> Mapping[str, Any]:
    """Read layout.toml."""
    return tomllib.loads((package_files(__package__) / "layout.toml").read_text(encoding="utf-8"))


@cache
def task_table(submix: str) -> Mapping[str, Any]:
    """Load the published sizes of a submix: its rows, and tasks with their rows, both of one zero-shot template
    setting."""
    path = package_files(__package__) / "tasks" / f"{submix}.json"
    table: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return table


def said_by_name(name: str) -> Said:
    """Read submix and template type from a file's name and folders: "cot_zs_opt_train.jsonl.gz",
    "t0_fsnoopt_data/part.parquet"."""
    found = _NAMED.search(name.lower())
    if found is None:
        return Said(None, None)
    submix, shots, options = found.groups()
    return Said("flan2021" if submix == "flan" else submix, shots + options)


def plain_template(template: str) -> str:
    """Spell a template type as one word: zs_opt and zsopt are the same."""
    return template.lower().replace("_", "")


def columns_of(names: Sequence[str]) -> dict[str, str]:
    """Map ours ("question", "reference", "task", "source", "template") to the columns of a file that has them."""
    known: Mapping[str, list[str]] = layout()["columns"]
    return {ours: next(one for one in theirs if one in names) for ours, theirs in known.items() if {*theirs} & {*names}}


def what_it_has(names: Sequence[str]) -> str:
    """List the columns of a file, for an error message."""
    return "it has: " + (", ".join(shown(name) for name in names[:20]) or "no column at all")
