"""The folder of a Hugging Face model: its configuration, its safetensors, and what a chat needs beside them.

Tensors are read by slices, so a rank never holds more than its part and the tensor at hand; they are written one by one
in files of bounded size, the index last.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open

from orca_recipes.errors import ModelError
from orca_recipes.json_text import json_value
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
# Hubs and readers cope with files of this size, and a download that breaks off loses no more.
_FILE_BYTES = 5_000_000_000
_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
# Computed from the configuration; old checkpoints of Llama store it beside the weights.
_LEFT_OUT = "rotary_emb.inv_freq"
"""Older checkpoints hold RoPE's frequencies, which follow from the configuration."""


class SafetensorFiles:
    """The weights of a folder, read by slices.

    A file is open while one of its tensors is read, and no longer: what is mapped counts as memory of the process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, Path] = {}
        self._shapes: dict[str, Shape] = {}
        try:
            for path in self._paths():
                with safe_open(path, framework="pt") as file:
                    for name in file.keys():  # noqa: SIM118
                        self._files[name] = path
                        self._shapes[name] = tuple(file.get_slice(name).get_shape())
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{folder}: its weights cannot be read ({error}): fetch them again") from error

    def check(self, expected: Mapping[str, Shape], *, title: str, may_be_there: Iterable[str] = ()) -> None:
        """Check that the folder holds these tensors and no others.

        Args:
            title: what their family is called. may_be_there: names that are ignored where they stand beside them.
        Raises: ModelError naming the first that is missing, of another shape, or one too many.
        """
        found = self._shapes
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
        with safe_open(self._files[name], framework="pt") as file:
            tensor = file.get_slice(name)
            cut: torch.Tensor = tensor[rows] if columns is None else tensor[rows, columns]
            return cut

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
    """Read `config.json` of a model.

    Raises: ModelError where there is none.
    """
    if not (folder / CONFIG).is_file():
        raise ModelError(f"{folder} is not a Hugging Face model: it has no {CONFIG}; name a folder that has one")
    return _read_json(folder / CONFIG)


def read_generation_settings(folder: Path) -> dict[str, Any]:
    """Read `generation_config.json` of a folder, empty where there is none."""
    path = folder / GENERATION
    return _read_json(path) if path.is_file() else {}


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def copy_chat_files(source: Path, target: Path) -> None:
    """Copy tokenizer, chat template and generation settings, as far as they are there."""
    target.mkdir(parents=True, exist_ok=True)
    for name in CHAT_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def write_safetensors(
    folder: Path,
    tensors: Iterable[tuple[str, torch.Tensor]],
    shapes: Mapping[str, Shape],
    dtype: torch.dtype,
    *,
    file_bytes: int = _FILE_BYTES,
) -> None:
    """Write tensors in files of at most so many bytes (a larger tensor has a file of its own), and their index.

    Args:
        tensors: name and tensor, in the order of shapes; each is asked for when it is written. shapes: of all.
    """
    sizes = {name: dtype.itemsize * math.prod(shape) for name, shape in shapes.items()}
    files, left = _files(sizes, file_bytes), iter(tensors)
    for file, names in files.items():
        with _SafetensorsFile(folder / file, {name: shapes[name] for name in names}, dtype) as writing:
            for _ in names:
                writing.write(*next(left))
    if len(files) > 1:
        weight_map = {name: file for file, names in files.items() for name in names}
        # Last: a folder with an index is whole.
        write_json(folder / _INDEX, {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map})


class _SafetensorsFile:
    """A file whose tensors are written in any order, byte for byte as safetensors' `save_file` writes them at once.

    `save_file` wants all of them in memory. Source: the format in the README of safetensors.
    """

    def __init__(self, path: Path, shapes: Mapping[str, Shape], dtype: torch.dtype) -> None:
        self._dtype, self._places = dtype, {}
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        # `save_file` sorts so: files are then equal byte for byte, however they were written.
        for name in sorted(shapes):
            start, end = end, end + dtype.itemsize * math.prod(shapes[name])
            header[name] = {"dtype": _DTYPES[dtype], "shape": list(shapes[name]), "data_offsets": [start, end]}
            self._places[name] = start
        told = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        # The format wants tensors to begin at multiples of eight bytes, so that they can be mapped.
        told += b" " * (-len(told) % 8)
        self._first = 8 + len(told)
        self._file = path.open("wb")
        self._file.write(len(told).to_bytes(8, "little") + told)

    def write(self, name: str, tensor: torch.Tensor) -> None:
        self._file.seek(self._first + self._places.pop(name))
        self._file.write(tensor.to(self._dtype).contiguous().flatten().view(torch.uint8).numpy().data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _files(sizes: Mapping[str, int], file_bytes: int) -> dict[str, list[str]]:
    """Return names of files, and of the tensors in each, in order."""
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
        found = json_value(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: it cannot be read ({error}): fetch it again") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: it is no JSON object: fetch it again")
    return found


def _sized(shape: Shape) -> str:
    return " x ".join(map(str, shape))
