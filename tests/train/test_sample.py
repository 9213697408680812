"""An answer whose keys and values are kept is the answer of the whole text run anew for every token."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from orca_recipes.train.hf.configuration import architecture_from_hf
from orca_recipes.train.model.network import build_model, logits, next_logits
from orca_recipes.train.model.segment_attention import Cache
from orca_recipes.train.processes.parallel_layout import Layout, Place
from orca_recipes.train.sample import Manner, Text, generate
from tests.train.random_models import FAMILIES, saved_configuration

PROMPT = [5, 17, 99, 3, 250, 17, 42, 8, 77]
TOKENS = 12
"""Of an answer: more than the windows of the models, which are 9."""


@pytest.mark.parametrize("layout", [Layout(), pytest.param(Layout(tensor_parallel=2), marks=pytest.mark.slow)], ids=str)
def test_logits_and_answers_of_every_family_are_those_without_a_cache(
    run_layout: Callable[..., list[Any]], layout: Layout
):
    def differences(place: Place) -> dict[str, float]:
        found = {}
        for family in FAMILIES:
            architecture = architecture_from_hf(saved_configuration(family, 3), family)
            model = build_model(architecture, layout)
            with torch.no_grad():
                cache, tokens = Cache(), list(PROMPT)
                far, kept = [], next_logits(model, tokens, cache)
                for _ in range(TOKENS):
                    anew = logits(model, Text(tokens))[0, -1]
                    there = torch.isfinite(anew)
                    far.append(float((kept - anew)[there].abs().max()))
                    tokens.append(int(anew.argmax()))
                    kept = next_logits(model, tokens[-1:], cache)
                answer = list(generate(model, PROMPT, Manner(max_tokens=TOKENS), ends=frozenset()))
            assert answer == tokens[len(PROMPT) :], family
            found[family] = max(far)
        return found

    for rank in run_layout(layout, differences):
        assert max(rank.values()) < 1e-4, rank
