"""The small recipe, for stores that builds fill."""

from tests.run.small_recipe import recipe

__all__ = ["recipe"]
