"""Name who is at fault: the recipe path that caused a user's error (`collections.cot: ...`), or a plugin's kind.

Kinds do not know under which name a recipe uses them; the command finds the line of the path.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from orca_recipes.contract.kinds import Kind
from orca_recipes.contract.pieces import piece_of_kind
from orca_recipes.contract.spelling import quoted
from orca_recipes.errors import EngineError, OrcaError, PluginError, RecipeError, UserError

_OURS = "orca_plugins."


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


@contextmanager
def of_kind(kind: Kind) -> Iterator[None]:
    """Name a stranger's kind in which, or on whose results, work fails with an error that says nothing to a user.

    Raises: PluginError in place of such an error. Those of our own kinds stay as they are: they are bugs of ours.
    """
    try:
        yield
    except (OrcaError, OSError, MemoryError):
        raise
    except Exception as fault:
        if type(kind).__module__.startswith(_OURS):
            raise
        said = (str(fault).strip() or "no reason given").splitlines()[0]
        raise unsound(
            kind, f"fails, or returns what the contract does not allow ({type(fault).__name__}: {said})"
        ) from (fault)


def unsound(kind: Kind, what: str) -> PluginError:
    """Word that a kind breaks its contract, with what it did."""
    name = f"{piece_of_kind(type(kind)).word} {quoted(kind.kind)} of {type(kind).__module__}"
    return PluginError(
        f"{name} {what}; tell its author, who finds it with `orca-recipe plugin test`, or choose another kind "
        "(--traceback shows where)"
    )
