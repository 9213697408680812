"""Training steps of a 1B-class model on one GPU, beside transformers + TRL on the same examples, in one run.

Both train whole examples of the same build, packed into rows of the same length, as many rows a step. What is compared
is target tokens a second, and model FLOPs by what the GPU's maker states; a pad is credited to nobody.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from orca_recipes.shards.manifest import read_manifest
from tests.bench.measure import CommandFailed

HOME = Path(__file__).parents[2]
PEER = Path(__file__).parent / "peers" / "trl_train.py"
MODEL = "1b"
STEPS, WARM_STEPS = 50, 10
SETTINGS = {"batch_rows": 8, "micro_batch_rows": 4, "learning_rate": 1e-4}
HOW_TO_INSTALL = (
    "python3.11 -m venv peers-gpu && peers-gpu/bin/pip install torch trl transformers datasets accelerate && "
    "peers-gpu/bin/pip install flash-attn --no-build-isolation"
)


@dataclass(frozen=True)
class Pace:
    """What was trained in some seconds, the first steps left out. lengths: of all examples."""

    seconds: float
    target_tokens: int
    lengths: Sequence[int]


def check_gpu(peer: Path | None) -> None:
    """Raises: ClickException, in one sentence, where this cannot be measured."""
    import torch

    if not torch.cuda.is_available():
        raise click.ClickException("--gpu: this machine has no GPU that torch can use; run it on one that has")
    if peer is None:
        raise click.ClickException(
            f"--gpu needs an interpreter that has TRL, --peer-python PATH; to make one: {HOW_TO_INSTALL}"
        )


def compare(build: Path, folder: Path, peer: Path) -> Iterator[str]:
    """Lines for a person, as they are found."""
    import torch

    from orca_recipes.train.model.architecture import named_architecture
    from orca_recipes.train.model.flops import peak_flops, step_flops
    from orca_recipes.train.model.layer_parts import transformer_engine_is_installed

    manifest = read_manifest(build)
    architecture = named_architecture(MODEL).with_vocabulary(manifest.vocabulary_size)
    layers = "TransformerEngine" if transformer_engine_is_installed() else "plain layers, without TransformerEngine"
    gpu = torch.cuda.get_device_name()
    yield f"{gpu}, {MODEL}: {architecture.parameters:,} parameters, rows of {manifest.row_tokens:,} tokens"
    peak = peak_flops(torch.device("cuda"))
    rates = []
    for name, pace in ((f"orca_recipes ({layers})", ours(build, folder)), ("TRL", theirs(build, folder, peer))):
        flops = step_flops(architecture, [[0, length] for length in pace.lengths]) / pace.seconds
        used = f"{flops / peak:.1%} of the peak" if peak is not None else f"{flops / 1e12:.0f} TFLOP/s"
        rates.append(pace.target_tokens / pace.seconds)
        yield f"{name}: {rates[-1]:,.0f} target tokens/s, {sum(pace.lengths) / pace.seconds:,.0f} tokens/s, {used}"
    yield f"target tokens/s, ours to TRL's: {rates[0] / rates[1]:.2f}"


def ours(build: Path, folder: Path) -> Pace:
    """The command, as a user runs it; what its log says of the steps after the first."""
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    flags = [word for name, value in SETTINGS.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    words = [
        sys.executable,
        "-m",
        "orca_recipes.cli.main",
        "train",
        str(build),
        "--out",
        str(run),
        "--model",
        MODEL,
        *flags,
    ]
    layout = ["--device", "cuda", "--tensor-parallel", "1", "--data-parallel", "1"]
    _said([*words, *layout, "--schedule", "constant", "--steps", str(STEPS)])
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    # The weights of such a model are gigabytes that nobody asks for again.
    shutil.rmtree(run)
    counted = [line for line in lines if "loss" in line][WARM_STEPS:]
    return Pace(
        seconds=sum(line["seconds"] for line in counted),
        target_tokens=sum(line["target_tokens"] for line in counted),
        lengths=[len(tokens) for step in range(WARM_STEPS, STEPS) for tokens, _ in step_examples(build, step)],
    )


def theirs(build: Path, folder: Path, peer: Path) -> Pace:
    """TRL in its own interpreter, on the examples that our steps train on."""
    place = folder / "peer"
    shutil.rmtree(place, ignore_errors=True)
    words = written_for_peer(build, place)
    told = json.loads(_said([str(peer), str(PEER), *words]).splitlines()[-1])
    return Pace(
        seconds=told["ends"][-1] - told["ends"][WARM_STEPS - 1],
        target_tokens=sum(told["target_tokens"][WARM_STEPS:]),
        lengths=[length for step in told["lengths"][WARM_STEPS:] for length in step],
    )


def written_for_peer(build: Path, place: Path) -> list[str]:
    """Examples, configuration with tokenizer, and settings in files; their paths, as the peer's script takes them."""
    from orca_recipes.train.model.architecture import architecture_to_hf, named_architecture

    manifest = read_manifest(build)
    shutil.copytree(build / "tokenizer", place / "model")
    architecture = named_architecture(MODEL).with_vocabulary(manifest.vocabulary_size)
    (place / "model" / "config.json").write_text(json.dumps(architecture_to_hf(architecture)))
    examples = [example for step in range(STEPS) for example in step_examples(build, step)]
    columns = {"input_ids": [tokens for tokens, _ in examples], "labels": [labels for _, labels in examples]}
    pq.write_table(pa.table(columns), place / "examples.parquet")
    told = {**SETTINGS, "steps": STEPS, "row_tokens": manifest.row_tokens, "out": str(place / "out")}
    (place / "settings.json").write_text(json.dumps(told))
    return [str(place / name) for name in ("examples.parquet", "model", "settings.json")]


def step_examples(build: Path, step: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Tokens of each example of a step, and its labels as transformers takes them: unshifted, -100 without loss."""
    from orca_recipes.train.data.rows import Rows
    from orca_recipes.train.training_settings import Request, resolve

    settings = resolve(Request(build=build, training=SETTINGS))
    rows, phase = Rows(build, settings.manifest), settings.chosen[0]
    order = phase.order()
    for position in range(*phase.step_rows(step)):
        view = rows.view(order[position])
        for start, end in zip(view.cu_seqlens, view.cu_seqlens[1:], strict=False):
            trained = np.concatenate([[False], view.loss_mask[start : end - 1] > 0])
            # The last span of a row may be pads alone.
            if trained.any():
                tokens = view.tokens[start:end]
                yield tokens, np.where(trained, tokens, -100)


def _said(words: Sequence[str]) -> str:
    done = subprocess.run(words, cwd=HOME, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandFailed(
            f"{' '.join(words)}\nended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return done.stdout
