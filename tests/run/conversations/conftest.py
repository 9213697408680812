"""Mixtures with reserves."""

from tests.run.mixtures.drawn import apart, orchard

__all__ = ["apart", "orchard"]
