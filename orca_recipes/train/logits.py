"""The logits of a checkpoint, for anyone who compares: `python -m orca_recipes.train.logits RUN --ids F --out G`.

Each row of ids is a text of its own. Rows run one by one and go to the disk as they come, so memory holds one row's.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__" and sys.path[0] == os.getcwd():
    # As in `orca_recipes.train`: a torch.py that lies in the current folder is not run, here or by a rank.
    del sys.path[0]
    os.environ["PYTHONSAFEPATH"] = "1"

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import numpy as np

from orca_recipes.errors import ModelError, OrcaError
from orca_recipes.shards.show.visible import visible
from orca_recipes.train.processes.parent import end_with, loaded_prctl

if TYPE_CHECKING:
    from orca_recipes.train.model.architecture import Architecture


@click.command("orca_recipes.train.logits")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--ids", required=True, metavar="FILE", type=click.Path(path_type=Path), help="Integers [rows, tokens] or [tokens]."
)
@click.option(
    "--out", required=True, metavar="FILE", type=click.Path(path_type=Path), help="Gets float32 [..., vocabulary]."
)
@click.option(
    "--tensor-parallel",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Ranks that share the model.",
)
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where the model lies."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--launched-by", type=int, hidden=True)
def main(
    run: Path,
    ids: Path,
    out: Path,
    tensor_parallel: int,
    device: Literal["cpu", "cuda"],
    as_json: bool,
    launched_by: int | None,
) -> None:
    """Write the logits that a model gives at every token of some texts.

    RUN is a run's folder or a folder that was imported into, for its newest checkpoint, or a checkpoint. The ranks of a
    tensor parallel model are started by this command.
    """
    if launched_by is not None:
        end_with(launched_by, loaded_prctl())
    # Megatron tells of every package that it could use and does not find, and of names that it will change.
    warnings.simplefilter("ignore")
    try:
        _answer(run, ids, out, tensor_parallel, device, as_json=as_json, is_rank=launched_by is not None)
    except OrcaError as error:
        print(visible(str(error), keep="\n"), file=sys.stderr, flush=True)
        sys.exit(error.exit_status)


def write_logits(
    checkpoint: Path, ids: np.ndarray, out: Path, *, tensor_parallel: int = 1, device: Literal["cpu", "cuda"] = "cpu"
) -> None:
    """Run texts through a checkpoint and write their logits; the ranks of the layout call it together.

    Args:
        ids: int [rows, tokens] or [tokens], all of them tokens of the model.
        out: gets float32 [*ids.shape, vocabulary], whole or not at all.
    """
    import torch

    from orca_recipes.train.checkpoints.checkpoint import load_weights
    from orca_recipes.train.checkpoints.description import read_checkpoint
    from orca_recipes.train.model.network import build_model, logits
    from orca_recipes.train.processes.parallel_layout import Layout, running
    from orca_recipes.train.sample import Text

    layout = Layout(tensor_parallel=tensor_parallel, device=device)
    with running(layout, seed=1) as place, torch.no_grad():
        model = build_model(read_checkpoint(checkpoint).architecture, layout, initialize=False)
        load_weights(checkpoint, model)
        tokens = model.architecture.vocabulary_size
        with _written(out, (*ids.shape, tokens), mine=place.rank == 0) as found:
            rows = found.reshape(-1, ids.shape[-1], tokens) if found is not None else None
            for number, row in enumerate(ids.reshape(-1, ids.shape[-1])):
                scores_TV = logits(model, Text(row.tolist(), place.device))[0, :, :tokens].float().cpu().numpy()
                if rows is not None:
                    rows[number] = scores_TV


def read_ids(path: Path, architecture: Architecture) -> np.ndarray:
    """Read texts as ids of a model's tokens.

    Raises: ModelError where the file holds anything else.
    """
    try:
        ids: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ModelError(f"--ids {path}: it cannot be read ({error}); save integers with numpy.save") from error
    if not isinstance(ids, np.ndarray) or ids.ndim not in (1, 2) or ids.dtype.kind not in "iu" or not ids.size:
        raise ModelError(f"--ids {path}: it holds no integers [rows, tokens]; save some with numpy.save")
    if ids.min() < 0 or ids.max() >= architecture.vocabulary_size:
        strange = int(ids.min() if ids.min() < 0 else ids.max())
        raise ModelError(
            f"--ids {path}: {strange:,} is no token of the model, which has {architecture.vocabulary_size:,}; "
            "encode with its tokenizer"
        )
    if ids.shape[-1] > architecture.max_positions:
        raise ModelError(
            f"--ids {path}: its rows have {ids.shape[-1]:,} tokens, and the model has positions for "
            f"{architecture.max_positions:,}; save shorter rows"
        )
    return ids


def _answer(
    run: Path, file: Path, out: Path, ranks: int, device: Literal["cpu", "cuda"], *, as_json: bool, is_rank: bool
) -> None:
    from orca_recipes.train.checkpoints.description import newest_checkpoint, read_checkpoint
    from orca_recipes.train.processes.launch import start_ranks
    from orca_recipes.train.processes.parallel_layout import Layout, checked
    from orca_recipes.train.sample import checkpoint_at

    checkpoint = newest_checkpoint(run) or checkpoint_at(run)
    architecture = read_checkpoint(checkpoint).architecture
    checked(Layout(tensor_parallel=ranks, device=device), architecture)
    ids = read_ids(file, architecture)
    if is_rank or ranks == 1:
        write_logits(checkpoint, ids, out, tensor_parallel=ranks, device=device)
    else:
        words = [str(checkpoint), "--ids", str(file), "--out", str(out), "--device", device]
        status = start_ranks(ranks, ["-m", "orca_recipes.train.logits", *words, "--tensor-parallel", str(ranks)])
        if status:
            sys.exit(status)
    if not is_rank:
        shape = [*ids.shape, architecture.vocabulary_size]
        told = {"checkpoint": str(checkpoint), "out": str(out), "shape": shape}
        print(json.dumps(told) if as_json else f"{out}: logits {shape} of {checkpoint}")


@contextmanager
def _written(out: Path, shape: tuple[int, ...], *, mine: bool) -> Iterator[Any]:
    """Create an array file, renamed to its final name once fully written; None on ranks that do not write."""
    if not mine:
        yield None
        return
    aside = out.with_name(f".{out.name}.partial")
    try:
        array = np.lib.format.open_memmap(aside, mode="w+", dtype=np.float32, shape=shape)
        yield array
        array.flush()
        aside.rename(out)
    except OSError as error:
        raise ModelError(f"--out {out}: it cannot be written ({error}); name another file") from error
    finally:
        aside.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
