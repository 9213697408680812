"""Mixtures that are drawn of an orchard."""

from tests.run.mixtures.drawn import apart, draw, orchard

__all__ = ["apart", "draw", "orchard"]
