"""Find the installed plugin in which an unforeseen error was raised, so that its author hears of it and not we."""

import re
import traceback
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from orca_recipes.contract.hooks import GROUP

_LINE = re.compile(r'File "([^"\n]+)", line (\d+)')
_OURS = "orca-recipes"


def plugin_at_fault(error: BaseException) -> str | None:
    """Name the plugin and the innermost line of it that an error came through, as `noisy 0.1 (noisy/kind.py:24)`.

    Lines are read from the text of the traceback, since those of other processes come as notes.
    Returns: None where no package but ours was met.
    """
    met = _LINE.findall("".join(traceback.format_exception(error)))
    strangers = list(_strangers()) if met else []
    for file, line in reversed(met):
        for owner, place in strangers:
            if Path(file).is_relative_to(place):
                return f"{owner} ({Path(file).relative_to(place.parent).as_posix()}:{line})"
    return None


def _strangers() -> Iterator[tuple[str, Path]]:
    """Yield each plugin that is not ours, with the folder or file of its code."""
    for point in metadata.entry_points(group=GROUP):
        if point.dist is None or point.dist.name == _OURS:
            continue
        # The package above a module is imported to find it; it was, or no line of it could be met.
        found = find_spec(point.module.partition(".")[0])
        if found is not None:
            places = found.submodule_search_locations or ([found.origin] if found.origin else [])
            yield from ((f"{point.dist.name} {point.dist.version}", Path(place)) for place in places)
