"""Micro-batches through the model: forward, and backward where it learns.

Where the model is cut into stages, megatron-core's schedule says whose turn it is: each stage runs some micro-batches
forward before the first comes back, so that none waits for long.

B = rows of a micro-batch, T = row_tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.distributed import DistributedDataParallel
from megatron.core.pipeline_parallel import get_forward_backward_func

from orca_recipes.train.data.batches import Batch, Normalization
from orca_recipes.train.megatron_versions import standing_in_for_cuda_by_name
from orca_recipes.train.model.network import losses, losses_of, stage_output
from orca_recipes.train.transfer import sent

Hear = Callable[[Batch, torch.Tensor], None]
"""Told of every micro-batch and its weighed losses, float32 [B, T] on the device, 0 at places without one; on the last
stage, for no other knows them."""


@dataclass(frozen=True)
class Pass:
    """One way through some micro-batches of so many tokens each; gradients of the summed losses are collected where it
    learns."""

    mean_over: Normalization
    device: torch.device
    learn: bool
    micro_batches: int
    tokens: int

    def run(self, model: DistributedDataParallel, batches: Iterable[Batch], hear: Hear) -> None:
        """Run this rank's micro-batches; the ranks of a copy call it together."""
        with torch.set_grad_enabled(self.learn):
            if parallel_state.get_pipeline_model_parallel_world_size() > 1:
                self._by_schedule(model, iter(batches), hear)
            else:
                for number, batch in enumerate(batches, start=1):
                    # Ranks meet over the gradients of all micro-batches, while the last one is gone through backward.
                    with model.no_sync() if number < self.micro_batches else nullcontext():
                        loss = self._weighed(losses(model, batch.to(self.device)), batch, hear)
                        if self.learn:
                            loss.backward()  # type: ignore[no-untyped-call]

    def _by_schedule(self, model: torch.nn.Module, batches: Iterator[Batch], hear: Hear) -> None:
        def forward(left: Iterator[Batch], stage: torch.nn.Module) -> tuple[torch.Tensor, Callable[..., Any]]:
            batch = next(left)
            on_device = batch.to(self.device)

            def loss(found: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
                summed = self._weighed(losses_of(stage, found, on_device), batch, hear)
                # Of two values, or of none of tokens, the schedule would take means of its own. A device fills it in:
                # it would wait for a number of the host's.
                return summed, torch.full((), batch.target_tokens, dtype=torch.int, device=self.device), {}

            return stage_output(stage, on_device), loss

        with standing_in_for_cuda_by_name() if self.device.type == "cpu" else nullcontext():
            get_forward_backward_func()(
                forward_step_func=forward,
                data_iterator=batches,
                model=[model],
                num_microbatches=self.micro_batches,
                # All rows of a micro-batch are one sequence.
                seq_length=self.tokens,
                micro_batch_size=1,
                forward_only=not self.learn,
            )

    def _weighed(self, loss_BT: torch.Tensor, batch: Batch, hear: Hear) -> torch.Tensor:
        """Sum a batch's losses, each times its weight."""
        weights_BT = sent(batch.weights_BT(self.mean_over), self.device)
        # where() before the product: a pad's loss may be NaN, and NaN * 0 is NaN.
        weighed_BT = torch.where(weights_BT > 0, loss_BT, 0.0) * weights_BT
        hear(batch, weighed_BT.detach())
        return weighed_BT.sum()
