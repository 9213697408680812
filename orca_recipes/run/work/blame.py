"""Prefix a user's error with the recipe path that caused it: `collections.cot: ...`.

Kinds do not know under which name a recipe uses them; the command finds the line of the path.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from orca_recipes.errors import EngineError, RecipeError, UserError


@contextmanager
def placed(where: str) -> Iterator[None]:
    """Raise a user's error again behind the recipe path `where` ("collections.cot"), unless it begins with it."""
    try:
        yield
    except (RecipeError, EngineError):
        raise
    except UserError as fault:
        said = str(fault)
        if said.startswith(where):
            raise
        raise type(fault)(f"{where}: {said}") from fault
