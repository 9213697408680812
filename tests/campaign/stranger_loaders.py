"""Loaders of a stranger's plugin that misbehave on purpose, each in place of tokenizer "hf", behind small limits."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from orca_plugins.tokenizers.hf.kind import HF
from orca_recipes.catalogue import Catalogue
from orca_recipes.contract.hooks import hookimpl
from orca_recipes.contract.kinds import SourceFile
from orca_recipes.errors import OrcaError
from orca_recipes.progress import Progress
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.build import Asked, build
from orca_recipes.run.work.limited import Limited, Limits
from orca_recipes.store.store import Store

LIMITS = Limits(memory_bytes=512 << 20, seconds=5.0)


class Misbehaving(HF):
    """Does what its field says when its files are resolved."""

    kind: Literal["misbehaving"] = "misbehaving"
    does: str = ""

    def materialize(self, *, files: Sequence[SourceFile], folder: Path) -> None:
        LOADERS[self.does]()
        super().materialize(files=files, folder=folder)


def _allocates() -> None:
    held = []
    while True:
        held.append(bytearray(1 << 26))


def _recurses(depth: int = 0) -> int:
    return _recurses(depth + 1) + 1


def _panics() -> None:
    raise BaseException("thread 'main' panicked\n" + "frame\n" * 184)


def _floods() -> None:
    sys.stderr.write("x" * (1 << 20))
    os.abort()


def _raises_what_cannot_travel() -> None:
    class Local(Exception):
        def __init__(self, one: object, two: object) -> None:
            super().__init__("local")

    raise Local(lambda: None, open(os.devnull))  # noqa: SIM115


LOADERS: dict[str, Any] = {
    "sleeps": signal.pause,
    "allocates": _allocates,
    "exits": lambda: os._exit(0),
    "exits in Python": lambda: sys.exit(7),
    "aborts": os.abort,
    "is killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "recurses": _recurses,
    "panics": _panics,
    "floods": _floods,
    "raises what cannot travel": _raises_what_cannot_travel,
    "closes its pipes": lambda: os.closerange(3, 256),
    "interrupts": lambda: os.kill(os.getpid(), signal.SIGINT),
}


class Stranger:
    """The plugin."""

    @hookimpl
    def orca_tokenizers(self) -> dict[str, str]:
        return {"misbehaving": f"{__name__}:Misbehaving"}


def loaded_by_a_stranger(recipe: Path, folder: Path, does: str) -> int:
    """Build with such a loader; 2 where it ended in a sentence, 0 where all went well."""
    recipe.write_text(recipe.read_text().replace('kind = "hf"', f'kind = "misbehaving"\ndoes = "{does}"'))
    loaded = load_recipe(recipe, catalogue=Catalogue([Stranger()]), profile=None)
    asked = Asked(loaded, Store(folder / "other"), folder / "out2", workers=1, work=Limited(LIMITS))
    try:
        build(asked, Progress())
    except OrcaError as refused:
        sentence = str(refused)
    else:
        return 0
    assert "\n" not in sentence, sentence
    assert len(sentence) < 1000, len(sentence)
    return 2
