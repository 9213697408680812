"""Reading the pickles of a checkpoint as data: what they name beside a checkpoint's own classes is never called.

torch describes the weights of a checkpoint in a pickle, `.metadata`, and a pickle may call anything. Who asks, exports
or goes on with a checkpoint that came from elsewhere runs nothing of it.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import torch
from torch.distributed.checkpoint import filesystem

from orca_recipes.errors import CheckpointError
from orca_recipes.train.megatron_versions import replaced

METADATA = ".metadata"

_DCP = "torch.distributed.checkpoint"
_KNOWN = {
    f"{_DCP}.metadata": {
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    f"{_DCP}.filesystem": {"_StorageInfo", "_StoragePrefix"},
    f"{_DCP}.planner": {"BytesIOWriteData", "SavePlan", "TensorWriteData", "WriteItem", "WriteItemType"},
    "megatron.core.dist_checkpointing.strategies.torch": {"MCoreMetadata", "MCoreSavePlan"},
    "torch": {"Size"},
    "torch.serialization": {"_get_layout"},
}
"""What megatron-core 0.16 to 0.19 and torch write into `.metadata`, beside torch's types of numbers."""


def refuse_strangers(checkpoint: Path) -> None:
    """Refuse a checkpoint whose pickled description would call anything foreign to checkpoints.

    Raises: CheckpointError, naming it; OSError.
    """
    path = checkpoint / METADATA
    try:
        with path.open("rb") as file:
            _load(file)
    except _Stranger as error:
        raise stranger(path, str(error)) from error
    # A pickle that was damaged may fail with any error.
    except Exception as error:
        raise CheckpointError(f"{path}: it cannot be read ({error}); use the checkpoint before it") from error


def stranger(path: Path, name: str) -> CheckpointError:
    """Word that a file of a checkpoint names what no checkpoint needs."""
    return CheckpointError(
        f"{path}: it would call {name} when it is read, which no trainer writes; nothing was called: "
        "take the checkpoint from where you trust it"
    )


def name_refused(error: BaseException) -> str | None:
    """Return the name that torch refused to call, as its sentence has it; None for an error of another sort."""
    if found := re.search(r"\bGLOBAL ([\w.]+)", str(error)):
        return found[1]
    return "what is no data" if isinstance(error, pickle.UnpicklingError) else None


@contextmanager
def reading_data_alone() -> Iterator[None]:
    """Read pickles of a checkpoint as data while inside, whoever reads them."""
    load = torch.load

    def load_data(*arguments: Any, **more: Any) -> Any:
        return load(*arguments, **{**more, "weights_only": True})

    with (
        replaced(filesystem, pickle=SimpleNamespace(load=_load, dump=pickle.dump)),
        replaced(torch, load=load_data),
    ):
        yield


class _Stranger(pickle.UnpicklingError):
    """The name of what a checkpoint does not need."""


class _Data(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name in _KNOWN.get(module, ()) or (
            module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        ):
            return super().find_class(module, name)
        raise _Stranger(f"{module}.{name}")


def _load(file: BinaryIO) -> Any:
    return _Data(file).load()
