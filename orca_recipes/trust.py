"""The user's list of allowed destinations for recipes: pairs of a host and an environment variable.

A recipe names both, and a recipe may be a stranger's. The list is the user's own: it lies in their configuration, never
in a project. Requests to this machine itself need no entry.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import platformdirs

from orca_recipes.contract.destination import Destination
from orca_recipes.errors import TrustError
from orca_recipes.json_text import json_value

_PROGRAM = "orca-recipes"


def trust_file() -> Path:
    """Return the path of this user's list: in the folder ORCA_CONFIG, else where this system keeps configuration."""
    folder = os.environ.get("ORCA_CONFIG")
    return (Path(folder) if folder else platformdirs.user_config_path(_PROGRAM, appauthor=False)) / "trust.json"


def destination(host: str, variable: str) -> Destination:
    """Read HOST and VARIABLE as a user types them. Raises: TrustError where HOST is no host or VARIABLE no name."""
    url = host if "://" in host else f"https://{host}"
    try:
        found = Destination.of_url(url, variable)
    except ValueError as fault:
        raise TrustError(
            f"trust: {host} names no host ({fault}); say it as in api.openai.com, or http://HOST"
        ) from fault
    if variable != found.variable or not (variable == "-" or variable.isidentifier()):
        raise TrustError(f"trust: {variable} is no name of an environment variable; where no key is sent, say -")
    return found


def allowed() -> tuple[Destination, ...]:
    """Read the list, sorted; empty where there is none. Raises: TrustError where the file holds no list."""
    path = trust_file()
    try:
        told = json_value(path.read_text(encoding="utf-8"))
        return tuple(sorted(Destination(str(each["host"]), str(each["variable"])) for each in told["allowed"]))
    except FileNotFoundError:
        return ()
    except (ValueError, TypeError, KeyError, OSError) as fault:
        raise TrustError(f"{path}: the list of what recipes may send cannot be read; mend or remove it") from fault


def add(pair: Destination) -> bool:
    """Allow a pair; return whether it was new. Raises: TrustError."""
    return _changed({*allowed(), pair})


def remove(pair: Destination) -> bool:
    """Allow a pair no more; return whether it was there. Raises: TrustError."""
    return _changed({*allowed()} - {pair})


def not_allowed(destinations: Iterable[Destination]) -> tuple[Destination, ...]:
    """Tell which destinations leave this machine without this user's word, each once, sorted."""
    known = set(allowed())
    return tuple(sorted({each for each in destinations if not each.is_loopback} - known))


def check(destinations: Iterable[Destination], *, owner: str) -> None:
    """Refuse to send where this user never allowed it.

    Args:
        owner: what sends, for the sentence: "teachers.gpt".
    Raises: TrustError with the commands that allow it.
    """
    missing = not_allowed(destinations)
    if missing:
        told = "; ".join(f"orca-recipe trust add {each.host} {each.variable}" for each in missing)
        places = " and to ".join(map(str, missing))
        raise TrustError(
            f"{owner} sends requests to {places}, which you have never allowed; nothing was sent. If you know this "
            f"recipe and want that: {told}"
        )


def as_json(pairs: Sequence[Destination]) -> list[dict[str, Any]]:
    """Write pairs as JSON values: host and variable."""
    return [{"host": each.host, "variable": each.variable} for each in pairs]


def _changed(pairs: set[Destination]) -> bool:
    """Write the list, whole or not at all, where it changed."""
    if pairs == set(allowed()):
        return False
    path = trust_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, encoding="utf-8", delete=False) as file:
        aside = Path(file.name)
        try:
            json.dump({"allowed": as_json(sorted(pairs))}, file, indent=1)
            file.flush()
            aside.replace(path)
        except OSError:
            aside.unlink(missing_ok=True)
            raise
    return True
