"""Whose fault it is: what is said of files, tokenizers and strategies begins with the recipe's path of what chose them.

Kinds do not know under which name a recipe uses them; the command finds the line of the path.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from orca_recipes.errors import RecipeError, UserError


@contextmanager
def placed(where: str) -> Iterator[None]:
    """Faults of a user, raised anew with the path that they belong to ("collections.cot"), unless they name it."""
    try:
        yield
    except RecipeError:
        raise
    except UserError as fault:
        said = str(fault)
        if said.startswith(where):
            raise
        raise type(fault)(f"{where}: {said}") from fault
