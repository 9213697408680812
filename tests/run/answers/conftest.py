"""Answers that an oracle sells."""

from tests.run.answers.bought import world

__all__ = ["world"]
