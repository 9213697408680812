"""Compiles instruction-tuning data: a recipe becomes packed Megatron shards.

from orca_recipes import load_recipe, open_build

build = load_recipe("recipe.toml").build(workers=2)
for example in build.examples():
    ...
"""

import os
import sys

if sys.argv[:1] == ["-m"] and sys.path[0] == os.getcwd():
    # `python -m orca_recipes...`, as torchrun starts ranks, looks for modules in the current folder first: a socket.py
    # or torch.py that lies beside a recipe would run. While Python looks for the module, its name in argv is "-m".
    del sys.path[0]
    os.environ["PYTHONSAFEPATH"] = "1"

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orca_recipes.front.opened import Build, Dataset, Example, open_build
    from orca_recipes.front.planned import Plan
    from orca_recipes.front.recipe import Recipe, load_recipe

__version__ = "0.1.0"
__all__ = ["Build", "Dataset", "Example", "Plan", "Recipe", "load_recipe", "open_build"]

_PLACES = {
    "Build": "orca_recipes.front.opened",
    "Dataset": "orca_recipes.front.opened",
    "Example": "orca_recipes.front.opened",
    "Plan": "orca_recipes.front.planned",
    "Recipe": "orca_recipes.front.recipe",
    "load_recipe": "orca_recipes.front.recipe",
    "open_build": "orca_recipes.front.opened",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is: the package alone stays light."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PLACES[name]), name)
