"""What the targets of the fuzz campaign share: a sound build to spoil, a folder to write to, what an answer owes."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from orca_recipes.catalogue import Catalogue
from orca_recipes.shards.manifest import NAME

HOME = Path(__file__).parents[2]


class Wrong(Exception):
    """An answer that is not the right one."""


@dataclass(frozen=True)
class World:
    """A folder to write inputs to, and a sound build whose files are spoilt."""

    folder: Path
    build: Path
    lock: Path

    @cached_property
    def catalogue(self) -> Catalogue:
        return Catalogue()

    @cached_property
    def recipes(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted((HOME / "recipes").glob("*.toml"))]

    @cached_property
    def templates(self) -> list[bytes]:
        return [path.read_bytes() for path in sorted((HOME / "tests/plugins/chat_templates").glob("*.jinja"))]

    @cached_property
    def pair(self) -> tuple[bytes, bytes]:
        """The smallest index and its tokens."""
        index = min(self.build.glob("*/*.idx"), key=lambda path: path.stat().st_size)
        return index.read_bytes(), index.with_suffix(".bin").read_bytes()

    @cached_property
    def manifest(self) -> bytes:
        return (self.build / NAME).read_bytes()

    @cached_property
    def locked(self) -> bytes:
        return self.lock.read_bytes()

    def write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path


Target = Callable[[World, random.Random], bool]
"""Makes an input and tries it: whether it was accepted. Raises: Wrong, or whatever the input brought about."""


def one_line(sentence: object) -> bool:
    return bool(str(sentence)) and "\n" not in str(sentence)


def require(kept: bool, sentence: str) -> None:
    if not kept:
        raise Wrong(sentence)
