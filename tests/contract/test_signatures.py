"""The contract as it was given a version: what plugins implement and are handed stays, so that they go on loading.

What is added (a method that need not be written, a field with a default, a hook) breaks nobody and needs no new
version. What is taken away, or asked of authors anew, is a decision: raise `orca_recipes.contract.VERSION`, tell of it,
and write the record again with `ORCA_GOLDEN=write pytest tests/contract/test_signatures.py`.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
from pathlib import Path
from typing import Any

from orca_recipes.contract import VERSION, exporter, kinds, markup, messages, testing
from orca_recipes.contract.pieces import PIECES

GOLDEN = Path(__file__).parent / "golden" / "signatures.json"
HANDED = (
    *(kinds.Encoder, kinds.Packing, kinds.Reading, kinds.Slice, kinds.SourceFile, kinds.Vocabulary),
    *(exporter.BuildToExport, exporter.DatasetToExport, exporter.RowBlock, exporter.ShardToExport, exporter.Written),
    *(markup.Joint, markup.Markup, messages.Turn),
)
"""Classes that plugins are handed, or hand back."""


def parameters(function: Any) -> dict[str, bool]:
    """Name to whether it must be given."""
    found = inspect.signature(function).parameters.values()
    return {one.name: one.default is inspect.Parameter.empty for one in found if one.name not in ("self", "cls")}


def told(cls: type) -> dict[str, Any]:
    """What authors lean on: methods with their parameters, which must be written, and fields with their needs."""
    functions = {name: getattr(cls, name) for name, _ in inspect.getmembers(cls) if not name.startswith("_")}
    own = {name: held for name, held in functions.items() if getattr(held, "__module__", "").startswith("orca_recipes")}
    methods = {name: parameters(held) for name, held in own.items() if callable(held) and not inspect.isclass(held)}
    fields = {}
    if dataclasses.is_dataclass(cls):
        missing = dataclasses.MISSING
        fields = {
            field.name: field.default is missing and field.default_factory is missing
            for field in dataclasses.fields(cls)
        }
    elif issubclass(cls, kinds.Kind):
        fields = {name: field.is_required() for name, field in cls.model_fields.items()}
    return {"methods": methods, "must": sorted(getattr(cls, "__abstractmethods__", ())), "fields": fields}


def contract() -> dict[str, Any]:
    classes = {cls.__name__: told(cls) for cls in (*(piece.contract for piece in PIECES), *HANDED)}
    checks = {name: parameters(getattr(testing, name)) for name in testing.__all__}
    return {"version": VERSION, "hooks": [piece.hook for piece in PIECES], "classes": classes, "checks": checks}


def broken(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What a plugin that was written for `before` would miss, or be asked for, in sentences."""
    found = [f"the hook {hook} is gone" for hook in before["hooks"] if hook not in after["hooks"]]
    for name, was in before["classes"].items():
        now = after["classes"].get(name)
        if now is None:
            found.append(f"{name} is gone")
            continue
        for method, needs in was["methods"].items():
            if now["methods"].get(method) != needs:
                found.append(f"{name}.{method} took {needs} and takes {now['methods'].get(method)}")
        found += [f"{name}.{method} must be written now" for method in now["must"] if method not in was["must"]]
        found += [f"{name}.{field} is gone" for field in was["fields"] if field not in now["fields"]]
        found += [
            f"{name}.{field} must be given now"
            for field, needed in now["fields"].items()
            if needed and not was["fields"].get(field, False)
        ]
    for name, needs in before["checks"].items():
        now = after["checks"].get(name, {})
        if any(parameter not in now for parameter in needs):
            found.append(f"{name} took {needs} and takes {now}")
    return found


def test_what_plugins_were_promised_is_kept() -> None:
    if os.environ.get("ORCA_GOLDEN") == "write":
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(contract(), indent=1) + "\n", encoding="utf-8")
    before = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert before["version"] == VERSION, "the version was changed: write the record again"
    assert broken(before, contract()) == []


def test_what_is_taken_away_or_asked_anew_is_a_break_and_what_is_added_is_none() -> None:
    before, after = contract(), contract()
    after["classes"]["Filter"]["methods"]["more"] = {"rows": True}
    after["classes"]["Reading"]["fields"]["more"] = False
    assert broken(before, after) == []
    del after["classes"]["Filter"]["methods"]["reasons"]
    after["classes"]["Source"]["must"] = [*after["classes"]["Source"]["must"], "more"]
    after["classes"]["Reading"]["fields"]["other"] = True
    after["hooks"].remove("orca_engines")
    assert [line.split(" took")[0] for line in broken(before, after)] == [
        "the hook orca_engines is gone",
        "Source.more must be written now",
        "Filter.reasons",
        "Reading.other must be given now",
    ]
