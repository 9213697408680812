"""The folder of a Hugging Face model: its configuration, its safetensors, and what a chat needs beside them.

Tensors are read by slices, so a rank never holds more than its part and the tensor at hand; they are written in files
of bounded size, the index last.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from orca_recipes.errors import ModelError
from orca_recipes.train.hf.weights import Shape

CONFIG = "config.json"
GENERATION = "generation_config.json"
CHAT_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    GENERATION,
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)
"""What stands beside weights so that text goes in and comes out."""

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_FILE_BYTES = 5_000_000_000
_LEFT_OUT = "rotary_emb.inv_freq"
"""Older checkpoints hold RoPE's frequencies, which follow from the configuration."""


class SafetensorFiles:
    """The weights of a folder, read by slices; close it after use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open_files = ExitStack()
        self._tensors: dict[str, Any] = {}
        try:
            for path in self._paths():
                file = self._open_files.enter_context(safe_open(path, framework="pt"))
                self._tensors |= {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            self.close()
            raise ModelError(f"{folder}: its weights cannot be read ({error}): fetch them again") from error

    def check(self, expected: Mapping[str, Shape], *, title: str, may_be_there: Iterable[str] = ()) -> None:
        """That the folder holds these tensors and no others.

        Args:
            title: what their family is called. may_be_there: names that are ignored where they stand beside them.
        Raises: ModelError naming the first that is missing, of another shape, or one too many.
        """
        found = {name: tuple(tensor.get_shape()) for name, tensor in self._tensors.items()}
        for name, shape in expected.items():
            if name not in found:
                raise ModelError(f"{self.folder}: {name} is missing: fetch all files of the model")
            if found[name] != shape:
                raise ModelError(
                    f"{self.folder}: {name} is {_sized(found[name])} and {CONFIG} says {_sized(shape)}: "
                    "fetch the model again"
                )
        for name in sorted(found.keys() - expected.keys() - set(may_be_there)):
            if not name.endswith(_LEFT_OUT):
                raise ModelError(
                    f"{self.folder}: {name} is no weight of a {title} model as the trainer computes it: choose another"
                )

    def read(self, name: str, *, rows: slice = slice(None), columns: slice | None = None) -> torch.Tensor:
        tensor = self._tensors[name]
        cut: torch.Tensor = tensor[rows] if columns is None else tensor[rows, columns]
        return cut

    def close(self) -> None:
        self._open_files.close()

    def __enter__(self) -> SafetensorFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _paths(self) -> list[Path]:
        index = self.folder / _INDEX
        if index.is_file():
            names = sorted(set(_read_json(index).get("weight_map", {}).values()))
            # A name is text out of a download; it may not lead out of the folder.
            return [self.folder / Path(str(name)).name for name in names]
        if (self.folder / _SINGLE).is_file():
            return [self.folder / _SINGLE]
        raise ModelError(
            f"{self.folder}: it holds neither {_SINGLE} nor {_INDEX}: fetch the model's safetensors, "
            "or save it with transformers' save_pretrained"
        )


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a model.

    Raises: ModelError where there is none.
    """
    if not (folder / CONFIG).is_file():
        raise ModelError(f"{folder} is not a Hugging Face model: it has no {CONFIG}; name a folder that has one")
    return _read_json(folder / CONFIG)


def read_generation_settings(folder: Path) -> dict[str, Any]:
    """`generation_config.json` of a folder, empty where there is none."""
    path = folder / GENERATION
    return _read_json(path) if path.is_file() else {}


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def copy_chat_files(source: Path, target: Path) -> None:
    """Tokenizer, chat template and generation settings, as far as they are there."""
    target.mkdir(parents=True, exist_ok=True)
    for name in CHAT_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def write_safetensors(
    folder: Path,
    tensors: Iterator[tuple[str, torch.Tensor]],
    sizes: Mapping[str, int],
    *,
    file_bytes: int = _FILE_BYTES,
) -> None:
    """Write tensors in files of at most so many bytes (a larger tensor has a file of its own), and their index.

    Args:
        tensors: name and tensor, in the order of sizes; each is asked for when it is written.
        sizes: bytes of every tensor.
    """
    files = _files(sizes, file_bytes)
    for file, names in files.items():
        held = dict(next(tensors) for _ in names)
        # One entry of metadata only: safetensors writes several in an order that changes.
        save_file({name: held[name].contiguous() for name in names}, folder / file, metadata={"format": "pt"})
        # safetensors makes files for their owner alone; these are as open as their folder.
        (folder / file).chmod(folder.stat().st_mode & 0o666)
        del held
    if len(files) > 1:
        weight_map = {name: file for file, names in files.items() for name in names}
        write_json(folder / _INDEX, {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map})


def _files(sizes: Mapping[str, int], file_bytes: int) -> dict[str, list[str]]:
    """Names of files, and of the tensors in each, in order."""
    groups: list[list[str]] = [[]]
    held = 0
    for name, size in sizes.items():
        if groups[-1] and held + size > file_bytes:
            groups.append([])
            held = 0
        groups[-1].append(name)
        held += size
    if len(groups) == 1:
        return {_SINGLE: groups[0]}
    return {
        f"model-{number:05d}-of-{len(groups):05d}.safetensors": group for number, group in enumerate(groups, start=1)
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: it cannot be read ({error}): fetch it again") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: it is no JSON object: fetch it again")
    return found


def _sized(shape: Shape) -> str:
    return " x ".join(map(str, shape))
