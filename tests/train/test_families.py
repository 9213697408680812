"""Families of models: transformers is the witness of their logits, their gradients and their files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from orca_recipes.train.hf.configuration import architecture_from_hf
from orca_recipes.train.hf.conversion import load_hf
from orca_recipes.train.model.families import families
from orca_recipes.train.model.network import build_model, losses
from orca_recipes.train.optimizer import AdamW, build_optimizer
from orca_recipes.train.processes.parallel_layout import running
from tests.train.agreement import LAYOUTS, Measured, measured
from tests.train.random_models import FAMILIES, save_random, transformers
from tests.train.rows import packed, stepped

SEEDS = (1, 2)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random models, two of each family."""
    place = tmp_path_factory.mktemp("families")
    names = [(f"{family}-{seed}", family, seed) for family in FAMILIES for seed in SEEDS]
    return {name: save_random(place / name, family, seed) for name, family, seed in names}


@pytest.fixture(scope="module")
def found(
    folders: dict[str, Path], fork_from_here: Callable[..., list[Any]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Measured]:
    return measured(folders, tmp_path_factory.mktemp("work"), fork_from_here)


def test_every_family_of_the_table_is_tried():
    assert families().keys() == FAMILIES.keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_examples_give_the_logits_that_transformers_gives_each_alone(found: dict[str, Measured], family: str):
    # Sums are taken in another order: a difference is some of the last digits of float32.
    assert max(found[f"{family}-{seed}"].max_difference or 0 for seed in SEEDS) < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_import_and_export_and_import_change_nothing(found: dict[str, Measured], family: str):
    assert [found[f"{family}-{seed}"].changed for seed in SEEDS] == [()] * len(SEEDS)


@pytest.mark.slow
def test_gradients_are_those_of_transformers_at_every_layout(
    folders: dict[str, Path], fork_from_here: Callable[..., list[Any]]
):
    batch = packed([64], [64], vocabulary=500)
    expected = {name: _norm_by_transformers(folder, batch.tokens_BT) for name, folder in folders.items()}
    for layout in LAYOUTS:

        def norms_of(rendezvous: str, to: Any = layout) -> dict[str, float]:
            norms = {}
            with running(to, seed=1, rendezvous=rendezvous):
                for name, folder in folders.items():
                    config = json.loads((folder / "config.json").read_text())
                    model = build_model(architecture_from_hf(config, name), to, initialize=False)
                    load_hf(folder, model)
                    optimizer = build_optimizer(model, to, AdamW())
                    losses(optimizer.gradients, batch)[:, :-1].sum().backward()
                    norms[name] = stepped(optimizer, learning_rate=1e-3, terms=2 * 63).gradient_norm
            return norms

        for rank in fork_from_here(layout.processes, norms_of):
            assert rank == {name: pytest.approx(norm, rel=1e-4) for name, norm in expected.items()}, str(layout)


def _norm_by_transformers(folder: Path, tokens_BT: torch.Tensor) -> float:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    scores_BTV = model(tokens_BT).logits
    torch.nn.functional.cross_entropy(scores_BTV[:, :-1].flatten(0, 1), tokens_BT[:, 1:].flatten()).backward()
    return float(torch.stack([weight.grad.double().square().sum() for weight in model.parameters()]).sum().sqrt())
