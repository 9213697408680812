"""The small recipe, for what is proven of builds."""

from tests.run.small_recipe import recipe, recipe_maker

__all__ = ["recipe", "recipe_maker"]
