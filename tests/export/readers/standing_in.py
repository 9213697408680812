"""Packages of trainers, opened beside their heavy parts: what is imported and never called while data are read."""

import sys
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any


class Nothing(type):
    """What stands for a class: it is made of anything, and whatever else it should have is empty."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return ()


class Absent(ModuleType):
    """A module whose every name is a class that does nothing."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing(name, (), {"__init__": lambda self, *_, **__: None})


def absent(*names: str) -> None:
    """Let modules stand for packages that reading data does not need."""
    for name in names:
        parent, _, last = name.rpartition(".")
        sys.modules[name] = Absent(name)
        if parent in sys.modules:
            setattr(sys.modules[parent], last, sys.modules[name])


def bare(*names: str) -> None:
    """Open packages without their `__init__`, which would import models and kernels."""
    for name in names:
        parent, _, last = name.rpartition(".")
        where = sys.modules[parent].__path__ if parent else None
        found = PathFinder.find_spec(name if parent else last, where)
        assert found is not None, name
        package = ModuleType(name)
        package.__path__ = list(found.submodule_search_locations or ())
        sys.modules[name] = package
        if parent:
            setattr(sys.modules[parent], last, package)
