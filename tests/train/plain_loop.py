"""A plain loop of torch and transformers over the rows that a training takes: the witness of its losses.

Each example is run alone, and AdamW is torch's own: no row, no mask, no megatron-core.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from orca_recipes.shards.layout import is_trained
from orca_recipes.shards.manifest import read_manifest
from orca_recipes.shards.reader import Shard
from orca_recipes.train.data.order import RowPlace
from orca_recipes.train.data.training_phases import TrainingPhase


def curve(model: Any, build: Path, phase: TrainingPhase, steps: int, mean_over: str = "token") -> Iterator[float]:
    """Train a model of transformers for some steps of a phase at a constant rate; give the loss of each."""
    training, order = phase.training, phase.order()
    assert training.schedule == "constant"
    assert not training.warmup_steps
    betas = (training.beta1, training.beta2)
    adamw = torch.optim.AdamW(model.parameters(), training.learning_rate, betas, training.epsilon, weight_decay=0.0)
    for step in range(steps):
        at = range(step * training.batch_rows, (step + 1) * training.batch_rows)
        loss = mean([one for position in at for one in losses(model, build, order[position])], mean_over)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training.clip_gradient)
        adamw.step()
        adamw.zero_grad()
        yield float(loss.detach())


def losses(model: Any, build: Path, row: RowPlace) -> Iterator[torch.Tensor]:
    """The losses of the targets of each example of a row."""
    for tokens, trained in examples_of(build, row):
        scores = model(tokens[None]).logits[0, :-1][trained[1:]]
        yield torch.nn.functional.cross_entropy(scores, tokens[1:][trained[1:]], reduction="none")


def mean(of: list[torch.Tensor], mean_over: str) -> torch.Tensor:
    """The mean over tokens, or over examples of the mean over theirs."""
    return torch.cat(of).mean() if mean_over == "token" else torch.stack([one.mean() for one in of]).mean()


def examples_of(build: Path, place: RowPlace) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Tokens of each example of a row, and which of them are trained on."""
    row, shards = place.row, read_manifest(build).datasets[place.dataset].shards
    for shard in shards:
        if row < shard.rows:
            break
        row -= shard.rows
    stored = Shard.open(build / shard.prefix).row(row)
    trained = np.repeat(is_trained(stored.segments.modes), stored.segments.lengths)
    for start, end in pairwise(stored.segments.example_bounds):
        yield torch.from_numpy(stored.tokens[start:end].astype(np.int64)), torch.from_numpy(trained[start:end])
