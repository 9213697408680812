"""The reason of a stage to run: its identity's differences from the last build into the same place."""

from collections.abc import Iterator, Mapping
from typing import Any

from orca_recipes.plan.stages import Stage

_INPUTS_TOLD = 20
"""Of the stages before one: a draw of a collection looks at all earlier ones, which may be thousands."""


def why(stage: Stage, before: Mapping[str, Any] | None, changed: Mapping[str, str]) -> str:
    """Word a stage's reason to run.

    Args:
        before: {"fingerprint", "decisive"} of the stage of that name in the last build, None where it had none.
        changed: reasons of stages already explained, by name; a stage follows its inputs.
    Returns: "" where the last build had the same stage.
    """
    if before is None:
        return "new"
    if before["fingerprint"] == stage.fingerprint:
        return ""
    old, new = ({**decisive} for decisive in (before["decisive"], stage.decisive))
    own = [*_plugin_changes(old.pop("plugins", {}), new.pop("plugins", {})), *_differences("", old, new)]
    if own:
        return "changed: " + "; ".join(own[:3]) + (f"; and {len(own) - 3} more" if len(own) > 3 else "")
    behind = [name for name in stage.inputs if changed.get(name)]
    if not behind:
        return "the program's own work in this stage was revised"
    told = ", ".join(_with_reason(name, changed[name]) for name in behind[:_INPUTS_TOLD])
    return f"after {told}" + (f" and {len(behind) - _INPUTS_TOLD:,} more" if len(behind) > _INPUTS_TOLD else "")


def _with_reason(name: str, reason: str) -> str:
    """Name a stage behind, with its reason if planning made it itself: it will not run any more, so nothing else tells
    it."""
    return f"{name} ({reason})" if name in ("tokenizer", "template") else name


def _plugin_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Yield the packages of strangers that changed: "stranger 1.0 -> 2.0"."""
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if new is None:
            yield f"{name} is gone"
        elif old is None:
            yield f"{name} {new['version']} is new"
        elif old["version"] != new["version"]:
            yield f"{name} {old['version']} -> {new['version']}"
        elif old["digest"] != new["digest"]:
            yield f"{name} {new['version']} has other files"
        elif old != new:
            yield f"{name} {new['version']} offers another class"


def _differences(path: str, before: Any, after: Any) -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            yield from _differences(f"{path}.{key}" if path else key, before.get(key), after.get(key))
    elif _plain(before) != _plain(after):
        yield f"{path} {_shown(before)} -> {_shown(after)}" if _is_short(before) and _is_short(after) else f"{path}"


def _plain(value: Any) -> Any:
    # What came out of JSON has lists where the plan has tuples.
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _is_short(value: Any) -> bool:
    return value is None or (isinstance(value, str | int | float | bool) and len(str(value)) <= 40)


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)
