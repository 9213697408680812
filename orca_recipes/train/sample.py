"""Asking a checkpoint: one answer, greedy or drawn, to see what a model has learned.

Keys and values of what was said are kept, so each token runs through the training's own layers once. For many answers
at speed, export the checkpoint and use what serves models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from orca_recipes.errors import CheckpointError, TemplateError
from orca_recipes.json_text import json_value
from orca_recipes.train.checkpoints.checkpoint import load_weights
from orca_recipes.train.checkpoints.description import TOKENIZER, newest_checkpoint, read_checkpoint
from orca_recipes.train.model.network import Network, build_model, next_logits
from orca_recipes.train.model.segment_attention import Cache
from orca_recipes.train.processes.parallel_layout import Layout, running
from orca_recipes.train.start import CHECKPOINTS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Manner:
    """Options of generation. temperature 0: always the likeliest token; else drawn from the likeliest tokens with total
    probability top_p. max_tokens: an answer without an end is cut there."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 1


def sample(checkpoint: Path, question: str, *, system: str | None, manner: Manner) -> str:
    """Generate the answer of a checkpoint, or of the newest one of a run.

    Args:
        system: the system message; None for none.
    Raises: CheckpointError where there is none; TemplateError where the text holds a control token's.
    """
    place = checkpoint_at(checkpoint)
    asked = Asked.open(place)
    prompt = asked.prompt(question, system)
    with running(Layout(), seed=manner.seed):
        model = build_model(read_checkpoint(place).architecture, Layout(), initialize=False)
        load_weights(place, model)
        return asked.text(list(generate(model, prompt, manner, ends=asked.ends)))


def checkpoint_at(place: Path) -> Path:
    """Return a checkpoint's folder: the one named, or the newest of a run that is named."""
    return newest_checkpoint(place / CHECKPOINTS) or place


@torch.no_grad()
def generate(model: Network, prompt: Sequence[int], manner: Manner, *, ends: frozenset[int]) -> Iterator[int]:
    """Yield the tokens of an answer, without the one that ends it; call it while a layout of one rank runs."""
    chance = torch.Generator().manual_seed(manner.seed)
    cache, said = Cache(), list(prompt)
    for _ in range(min(manner.max_tokens, model.architecture.longest_example - len(prompt))):
        token = _next(next_logits(model, said, cache).float().cpu(), manner, chance)
        if token in ends:
            return
        said = [token]
        yield token


@dataclass(frozen=True)
class Asked:
    """A checkpoint's tokenizer and chat template. ends: the tokens that end an answer."""

    tokenizer: PreTrainedTokenizerBase
    ends: frozenset[int]

    @classmethod
    def open(cls, checkpoint: Path) -> Asked:
        """Raises: CheckpointError where the checkpoint has no tokenizer."""
        from transformers import AutoTokenizer

        folder = checkpoint / TOKENIZER
        if not folder.is_dir():
            read_checkpoint(checkpoint)
            raise CheckpointError(
                f"{checkpoint} has no tokenizer to ask it with: train it, or name one that was trained"
            )
        path = folder / "generation_config.json"
        try:
            ends = json_value(path.read_bytes())["eos_token_id"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path}: it cannot be read as generation settings ({error})") from error
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        return cls(tokenizer, frozenset(ends if isinstance(ends, list) else [ends]))

    def prompt(self, question: str, system: str | None) -> list[int]:
        """Encode the tokens before the answer with the chat template.

        Raises: TemplateError where the text holds a control token's, which would become one.
        """
        texts = [("system", system), ("user", question)]
        messages = [{"role": role, "content": text} for role, text in texts if text is not None]
        control = [str(token) for token in self.tokenizer.added_tokens_decoder.values() if token.special]
        for message in messages:
            held = next((token for token in control if token in message["content"]), None)
            if held is not None:
                raise TemplateError(f"the {message['role']} message holds the control token {held}; leave it out")
        found = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        return [int(token) for token in found]

    def text(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))


class Text:
    """One text as the model takes rows: a row of its own length, without pads."""

    def __init__(self, tokens: Sequence[int], device: torch.device | None = None) -> None:
        self.tokens_BT = torch.tensor([list(tokens)], device=device)
        self.labels_BT = torch.zeros_like(self.tokens_BT)
        self.cu_seqlens = (np.array([0, len(tokens)], dtype=np.int32),)
        self.wanted: torch.Tensor | None = None


def _next(scores_V: torch.Tensor, manner: Manner, chance: torch.Generator) -> int:
    if manner.temperature == 0:
        return int(scores_V.argmax())
    likely, order = torch.softmax(scores_V / manner.temperature, dim=-1).sort(descending=True, stable=True)
    before = likely.cumsum(dim=-1) - likely
    kept = torch.where(before < manner.top_p, likely, 0.0)
    return int(order[torch.multinomial(kept, 1, generator=chance)])
