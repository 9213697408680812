"""The small recipe, for all rooms of the run."""

from tests.run.small_recipe import recipe

__all__ = ["recipe"]
