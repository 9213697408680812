"""Losses of steps and of held-out rows: a plain loop of torch and transformers over the same rows is the witness."""

import shutil
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from orca_recipes.errors import DamagedShard
from orca_recipes.shards.manifest import read_manifest
from orca_recipes.train.data import validation_groups
from orca_recipes.train.data.batches import read_batch
from orca_recipes.train.data.examine import examine
from orca_recipes.train.data.order import PhaseOrder, RowPlace
from orca_recipes.train.data.rows import Rows
from orca_recipes.train.data.validation_groups import read_groups, validation_order
from orca_recipes.train.outcome import outcome_json
from orca_recipes.train.processes.rank import prepare, train_as_rank
from orca_recipes.train.training_settings import Request
from tests.train import plain_loop
from tests.train.builds import answer, make_build, question, read_steps
from tests.train.plain_loop import losses, mean
from tests.train.random_models import save_random, transformers

STEPS, BATCH_ROWS = 3, 8
# A large epsilon keeps AdamW from turning rounding of tiny gradients into steps of full size.
CALM = {"epsilon": 1e-3, "learning_rate": 1e-3, "schedule": "constant", "batch_rows": BATCH_ROWS}
LOOKED_AT = {"validation": "checks", "validate_every": STEPS, "validation_rows": 7}
BOTH = ("token", "example")
LAYOUTS: dict[str, dict[str, int]] = {
    "alone": {},
    "tensor parallel 2": {"tensor_parallel": 2},
    "data parallel 2": {"data_parallel": 2},
    "pipeline parallel 2": {"pipeline_parallel": 2},
}
SORTS = ("collection", "task", "strategy")
CURRICULUM = """
[mixtures.checks]
take.odds = { rows = 25 }
take.sums = { rows = 15 }

[datasets.checks]
mixture = "checks"

[[curriculum]]
dataset = "sums"
"""


@dataclass(frozen=True)
class Told:
    """Losses of steps; of the last look the loss of all, and by sort and name."""

    curve: list[float]
    whole: float
    groups: dict[tuple[str, str], float]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answers of many lengths to be trained on; two collections and three tasks to be looked at."""
    pairs = [(question(number), "So it is. " * (1 + number % 5) + answer(number)) for number in range(60)]
    place = tmp_path_factory.mktemp("uneven") / "project"
    return make_build(place, CURRICULUM, pairs=pairs, tasks=("add", "count", "add", "tell"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random(
        tmp_path_factory.mktemp("model") / "llama",
        "llama",
        3,
        vocab_size=4099,
        num_hidden_layers=2,
        tie_word_embeddings=False,
    )


@pytest.fixture(scope="module")
def found(
    build: Path, model: Path, tmp_path_factory: pytest.TempPathFactory, fork_from_here: Callable[..., Any]
) -> Callable[[str], dict[str, Told]]:
    """What the log tells of the first steps and the look behind them at a layout, by normalization."""
    place = tmp_path_factory.mktemp("runs")

    @cache
    def at(layout: str) -> dict[str, Told]:
        def train(rendezvous: str) -> None:
            for number, mean_over in enumerate(BOTH):
                asked = request(build, model, place / f"{mean_over}, {layout}", mean_over, **LAYOUTS[layout])
                train_as_rank(asked, rendezvous=f"{rendezvous}-{number}")

        fork_from_here(2 if LAYOUTS[layout] else 1, train)
        found = {}
        for mean_over in BOTH:
            run = place / f"{mean_over}, {layout}"
            look = outcome_json(run, status=0)
            groups = {
                (sort, group): numbers["loss"]
                for sort, by in look["validation_losses"].items()
                for group, numbers in by.items()
            }
            found[mean_over] = Told([step["loss"] for step in read_steps(run)], look["validation_loss"], groups)
        return found

    return at


@pytest.fixture(scope="module")
def expected(build: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    """What a plain loop tells of them."""
    run = tmp_path_factory.mktemp("expected") / "run"
    return {
        mean_over: told_by_a_plain_loop(request(build, model, run, mean_over), model, mean_over) for mean_over in BOTH
    }


@pytest.mark.parametrize("mean_over", BOTH)
@pytest.mark.parametrize(
    "layout",
    [
        "alone",
        "data parallel 2",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("tensor parallel 2", "pipeline parallel 2")),
    ],
)
def test_losses_are_those_of_a_plain_loop_over_the_same_rows_at_every_layout(
    found: Callable[[str], dict[str, Told]], expected: dict[str, Told], layout: str, mean_over: str
):
    told, wanted = found(layout)[mean_over], expected[mean_over]
    assert len(wanted.curve) == STEPS
    assert told.curve == pytest.approx(wanted.curve, abs=1e-5)
    assert told.whole == pytest.approx(wanted.whole, abs=1e-5)
    assert told.groups == pytest.approx(wanted.groups, abs=1e-5)
    names = {("collection", "odds"), ("collection", "sums"), ("task", "add"), ("task", "count"), ("task", "tell")}
    assert told.groups.keys() == names | {("strategy", "direct")}


def test_the_two_means_differ_where_answers_differ_in_length(found: Callable[[str], dict[str, Told]]):
    one, other = (found("alone")[mean_over] for mean_over in BOTH)
    assert abs(one.curve[0] - other.curve[0]) > 1e-3
    assert abs(one.whole - other.whole) > 1e-3


def test_the_rarest_groups_are_told_together(build: Path, monkeypatch: pytest.MonkeyPatch):
    rows = Rows(build, read_manifest(build))
    order = PhaseOrder(seed=1, phase=0, held={"checks": rows.count("checks")}, taken={"checks": 5})
    every = read_groups(rows, order)
    monkeypatch.setattr(validation_groups, "_NAMED", 1)
    some = read_groups(rows, order)
    assert every.names["task"] == ["add", "count", "tell"]
    assert some.names["task"] == ["add", "(others)"]
    for key, codes in every.codes.items():
        assert (some.codes[key][:, 1] == (codes[:, 1] != 0)).all()


def test_records_that_were_changed_are_not_believed(build: Path, tmp_path: Path):
    copy = Path(shutil.copytree(build, tmp_path / "copy"))
    path = copy / "checks" / "00000.records.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    examine(copy, read_manifest(copy), whole=False)
    with pytest.raises(DamagedShard, match=r"checks/00000.records.parquet: (its digest is|it cannot be read)"):
        examine(copy, read_manifest(copy), whole=False, held_out=["checks"])
    with pytest.raises(DamagedShard, match=r"checks/00000.records.parquet: it cannot be read"):
        read_groups(Rows(copy, read_manifest(copy)), PhaseOrder(1, 0, {"checks": 1}, {"checks": 1}))


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


def request(build: Path, model: Path, run: Path, mean_over: str, **layout: int) -> Request:
    training = {**CALM, **LOOKED_AT, "loss_normalization": mean_over}
    return Request(build=build, out=run, model=str(model), device="cpu", steps=STEPS, training=training, **layout)


def told_by_a_plain_loop(asked: Request, folder: Path, mean_over: str) -> Told:
    """What a plain loop says of the steps and of the look behind them."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    phase = prepare(asked, 1).settings.phases[0]
    curve = list(plain_loop.curve(model, asked.build, phase, STEPS, mean_over))
    by_group, everything = defaultdict(list), []
    rows = Rows(asked.build, read_manifest(asked.build))
    held_out = validation_order(rows, phase.training)
    with torch.no_grad():
        for place in (held_out[position] for position in range(held_out.rows)):
            prefix, row = rows.locate(place)
            records = pq.read_table(asked.build / f"{prefix}.records.parquet").to_pylist()
            for record, one in zip(
                (one for one in records if one["row"] == row), losses(model, asked.build, place), strict=True
            ):
                everything.append(one)
                for sort in SORTS:
                    by_group[sort, record[sort]].append(one)
    return Told(
        curve, float(mean(everything, mean_over)), {key: float(mean(of, mean_over)) for key, of in by_group.items()}
    )
