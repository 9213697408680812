"""The small recipe, for stores that builds fill."""

from tests.run.small_recipe import lasting_recipe, recipe

__all__ = ["lasting_recipe", "recipe"]
