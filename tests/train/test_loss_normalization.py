"""What a loss is the mean over: a plain loop of torch and transformers over the same packed rows is the witness."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orca_recipes.shards.layout import is_trained
from orca_recipes.shards.manifest import read_manifest
from orca_recipes.shards.reader import Shard
from orca_recipes.train.data.batches import read_batch
from orca_recipes.train.data.order import RowPlace
from orca_recipes.train.data.rows import Rows
from orca_recipes.train.processes.rank import prepare, train_as_rank
from orca_recipes.train.training_settings import Request
from tests.train.builds import answer, make_build, question, read_steps
from tests.train.random_models import save_random, transformers

STEPS, BATCH_ROWS = 3, 8
# A large epsilon keeps AdamW from turning rounding of tiny gradients into steps of full size.
CALM = {"epsilon": 1e-3, "learning_rate": 1e-3, "schedule": "constant", "batch_rows": BATCH_ROWS}
BOTH = ("token", "example")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One dataset, of answers of many lengths."""
    pairs = [(question(number), "So it is. " * (1 + number % 5) + answer(number)) for number in range(60)]
    return make_build(tmp_path_factory.mktemp("uneven") / "project", '[[curriculum]]\ndataset = "sums"\n', pairs=pairs)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random(tmp_path_factory.mktemp("model") / "llama", "llama", 3, vocab_size=4099)


@pytest.fixture(scope="module")
def curves(
    build: Path, model: Path, tmp_path_factory: pytest.TempPathFactory, fork_from_here: Callable[..., Any]
) -> dict[tuple[str, int], list[float]]:
    """The losses of the first steps, by normalization and tensor parallel size."""
    place, found = tmp_path_factory.mktemp("runs"), {}
    for size in (1, 2):

        def train(rendezvous: str, ranks: int = size) -> None:
            for number, mean_over in enumerate(BOTH):
                asked = request(build, model, place / f"{mean_over}-{ranks}", mean_over, ranks)
                train_as_rank(asked, rendezvous=f"{rendezvous}-{number}")

        fork_from_here(size, train)
        for mean_over in BOTH:
            found[mean_over, size] = [step["loss"] for step in read_steps(place / f"{mean_over}-{size}")]
    return found


@pytest.mark.parametrize("mean_over", BOTH)
def test_the_loss_of_every_step_is_that_of_a_plain_loop_over_the_same_rows(
    curves: dict[tuple[str, int], list[float]], build: Path, model: Path, tmp_path: Path, mean_over: str
):
    expected = plain_losses(request(build, model, tmp_path / "run", mean_over, 1), model, mean_over)
    assert len(expected) == STEPS
    for ranks in (1, 2):
        assert curves[mean_over, ranks] == pytest.approx(expected, abs=1e-5)


def test_the_two_means_differ_where_answers_differ_in_length(curves: dict[tuple[str, int], list[float]]):
    assert abs(curves["token", 1][0] - curves["example", 1][0]) > 1e-4


def test_every_example_weighs_the_same_and_pads_nothing(build: Path):
    rows = Rows(build, read_manifest(build))
    batch = read_batch(rows, [RowPlace("sums", row, 0) for row in range(3)], 4)
    weights_BT = batch.weights_BT("example")
    assert torch.equal(weights_BT > 0, batch.loss_mask_BT > 0)
    examples = 0
    for weights_T, bounds in zip(weights_BT, batch.cu_seqlens, strict=True):
        sums = [float(weights_T[start:end].sum()) for start, end in pairwise(bounds)]
        examples += sum(total > 0 for total in sums)
        assert [total for total in sums if total] == pytest.approx([1.0] * sum(total > 0 for total in sums))
    assert batch.terms("example") == examples > 3
    assert batch.terms("token") == batch.target_tokens


def request(build: Path, model: Path, run: Path, mean_over: str, ranks: int) -> Request:
    training = {**CALM, "loss_normalization": mean_over}
    return Request(
        build=build, out=run, model=str(model), tensor_parallel=ranks, device="cpu", steps=STEPS, training=training
    )


def plain_losses(asked: Request, folder: Path, mean_over: str) -> list[float]:
    """Each example run alone through transformers, torch's own AdamW: no row, no mask, no megatron-core."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    adamw = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), eps=1e-3, weight_decay=0.0)
    order, found = prepare(asked, 1).settings.phases[0].order(), []
    for step in range(STEPS):
        places = [order[position] for position in range(step * BATCH_ROWS, (step + 1) * BATCH_ROWS)]
        summed, terms = torch.zeros(()), 0
        for tokens, trained in (example for place in places for example in examples_of(asked.build, place)):
            scores = model(tokens[None]).logits[0, :-1][trained[1:]]
            losses = torch.nn.functional.cross_entropy(scores, tokens[1:][trained[1:]], reduction="none")
            summed = summed + (losses.sum() if mean_over == "token" else losses.mean())
            terms += len(losses) if mean_over == "token" else 1
        (summed / terms).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adamw.step()
        adamw.zero_grad()
        found.append(float(summed.detach()) / terms)
    return found


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
