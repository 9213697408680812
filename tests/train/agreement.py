"""How near models of the families come to transformers, here and back: what tests and the campaign ask."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from orca_recipes.errors import ModelError
from orca_recipes.train.checkpoints.checkpoint import load_weights
from orca_recipes.train.checkpoints.description import read_checkpoint
from orca_recipes.train.hf.conversion import export_hf, import_hf
from orca_recipes.train.model.network import build_model, logits
from orca_recipes.train.processes.parallel_layout import Layout, running
from tests.train.random_models import transformers, witness_logits
from tests.train.rows import Packed, packed

LAYOUTS = [Layout(), Layout(tensor_parallel=2), Layout(tensor_parallel=2, sequence_parallel=True)]
SPANS = ((0, 0, 11), (0, 11, 51), (0, 51, 64), (1, 0, 64))
"""Row, start and end of each example of the batch."""
_DEAD = {"_name_or_path", "max_window_layers", "no_rope_layer_interval"}
"""What a configuration says that no network reads: rules that its lists of layers were made by."""

Fork = Callable[[int, Callable[[str], Any]], list[Any]]


@dataclass(frozen=True)
class Measured:
    """max_difference: of any logit, packed at any layout, from transformers' of the example alone. changed: what
    import, export and import did not keep. sentence: of a refusal."""

    max_difference: float | None = None
    changed: tuple[str, ...] = ()
    sentence: str | None = None


def measured(
    folders: Mapping[str, Path], work: Path, fork: Fork, *, layouts: Sequence[Layout] = LAYOUTS
) -> dict[str, Measured]:
    """Import, export and compute models.

    Args:
        folders: of models, by name. work: an empty folder. fork: runs a body on so many ranks.
        layouts: at which they are computed.
    """
    batch = packed([11, 40, 13], [64], vocabulary=500)
    [refused] = fork(1, lambda rendezvous: _there_and_back(folders, work))
    taken = {name: folder for name, folder in folders.items() if name not in refused}
    expected = {
        name: [witness_logits(folder, batch.tokens_BT[row : row + 1, start:end])[0] for row, start, end in SPANS]
        for name, folder in taken.items()
    }
    found: dict[str, list[torch.Tensor]] = {name: [] for name in taken}
    for layout in layouts:
        for ranks in fork(
            layout.processes, lambda rendezvous, to=layout: _computed(taken, work, batch, to, rendezvous)
        ):
            for name, scores in ranks.items():
                found[name].append(scores)
    return {name: Measured(sentence=sentence) for name, sentence in refused.items()} | {
        name: Measured(
            max(
                float((scores[row, start:end, : wanted.shape[-1]] - wanted).abs().max())
                for scores in found[name]
                for (row, start, end), wanted in zip(SPANS, expected[name], strict=True)
            ),
            changed=tuple(_changed(folder, work / name)),
        )
        for name, folder in taken.items()
    }


def _there_and_back(folders: Mapping[str, Path], work: Path) -> dict[str, str]:
    """Returns: sentences of those that were refused."""
    refused = {}
    for name, folder in folders.items():
        place = work / name
        try:
            export_hf(import_hf(folder, place / "run")[0], place / "exported")
            import_hf(place / "exported", place / "again")
        except ModelError as error:
            refused[name] = str(error)
    return refused


def _computed(
    folders: Mapping[str, Path], work: Path, batch: Packed, layout: Layout, rendezvous: str
) -> dict[str, torch.Tensor]:
    """Logits of the checkpoints that were imported."""
    found = {}
    with running(layout, seed=1, rendezvous=rendezvous), torch.no_grad():
        for name in folders:
            checkpoint = work / name / "run" / "step-00000000"
            model = build_model(read_checkpoint(checkpoint).architecture, layout, initialize=False)
            load_weights(checkpoint, model)
            found[name] = logits(model, batch)
    return found


def _changed(folder: Path, place: Path) -> list[str]:
    changed = []
    before, after = load_file(folder / "model.safetensors"), load_file(place / "exported" / "model.safetensors")
    changed += sorted(before.keys() ^ after.keys())
    changed += [name for name in before.keys() & after.keys() if not torch.equal(before[name], after[name])]
    once, twice = (read_checkpoint(place / run / "step-00000000") for run in ("run", "again"))
    changed += ["architecture"] if once.architecture != twice.architecture else []
    # By digests: what is exported of equal checkpoints is equal.
    changed += sorted(name for name in once.files if once.files[name] != twice.files.get(name))
    theirs, ours = (_as_transformers_reads(config) for config in (folder, place / "exported"))
    return changed + [f"{key}: {theirs[key]} to {ours.get(key)}" for key in theirs if theirs[key] != ours.get(key)]


def _as_transformers_reads(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = transformers.AutoConfig.from_pretrained(folder).to_dict()
    kept = {key: value for key, value in found.items() if key not in _DEAD}
    return json.loads(json.dumps(kept))  # type: ignore[no-any-return]
