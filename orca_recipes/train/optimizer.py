"""AdamW over a whole model, behind one interface: torch's on CPU, megatron-core's DistributedOptimizer on GPU.

Gradients are summed over micro-batches and ranks, and divided once by the number of terms of the global batch, its
target tokens or its examples: so the step is the exact mean, whatever the layout and however rows are filled. Norms do
not decay.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from megatron.core import parallel_state
from megatron.core.dist_checkpointing.optimizer import (
    get_param_id_to_sharded_param_map,
    make_sharded_optimizer_tensor,
)
from megatron.core.distributed import (
    DistributedDataParallel,
    DistributedDataParallelConfig,
    finalize_model_grads,
)
from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
from megatron.core.optimizer.clip_grads import clip_grad_by_total_norm_fp32
from megatron.core.tensor_parallel import param_is_not_tensor_parallel_duplicate
from megatron.core.transformer.module import param_is_not_shared

from orca_recipes.train.megatron_versions import gradients_of_norm
from orca_recipes.train.model.network import Network
from orca_recipes.train.processes.parallel_layout import Layout

_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class AdamW:
    """Options of the optimizer. clip: the norm of the whole model's gradient is at most this."""

    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    clip: float = 1.0


@dataclass(frozen=True)
class Step:
    """Result of a step. gradient_norm: of the mean gradient, before clipping.

    is_taken is False where the norm is not finite: the weights are then as they were.
    """

    gradient_norm: float
    is_taken: bool


def build_optimizer(model: Network, layout: Layout, options: AdamW) -> Optimizer:
    """Build the optimizer of a model, which collects the model's gradients from now on."""
    return _OnGpu(model, options, layout) if layout.device == "cuda" else _OnCpu(model, options)


class Optimizer(ABC):
    """Collects gradients between two steps: call `backward` on summed losses, any number of times, `reduce`, then
    `step`.

    All calls of `backward` but the last before a step belong inside `gradients.no_sync()`.
    """

    name: str
    """In checkpoints: the state of one optimizer means nothing to the other."""

    def __init__(self, model: Network, options: AdamW, *, distributed: bool, overlaps: bool = False) -> None:
        self.options = options
        config = DistributedDataParallelConfig(
            # Small gradients would be lost in a bfloat16 sum over micro-batches and ranks.
            grad_reduce_in_fp32=True,
            use_distributed_optimizer=distributed,
            # Ranks meet while the last micro-batch goes backward, and while the next step's first one goes forward.
            overlap_grad_reduce=overlaps,
            overlap_param_gather=overlaps,
        )
        self.gradients = DistributedDataParallel(config=model.config, ddp_config=config, module=model)
        self.gradients.zero_grad_buffer()

    @torch.no_grad()
    def reduce(self, terms: torch.Tensor) -> torch.Tensor:
        """Reduce the gradients to their mean, and return the square of its norm over the whole model: float64 [].

        Nothing is read from the device: whoever takes the step reads this beside what else it wants to know.

        Args:
            terms: float64 [], how many losses were summed on all ranks since the last step, of tokens or examples; on
                the device.
        """
        finalize_model_grads([self.gradients])
        # Where there were none, gradients are zeros, and stay so.
        self.gradients.scale_gradients(1 / terms.clamp(min=1))
        return self._square()

    @torch.no_grad()
    def step(self, square: float, *, learning_rate: float, terms: int) -> Step:
        """Take one step along the gradients that were reduced, and begin to collect anew.

        Args:
            square, terms: what `reduce` returned, and was given. Where there were no terms, weights and moments stay as
                they are.
        """
        norm = math.sqrt(square)
        is_taken = math.isfinite(norm)
        if terms and is_taken:
            self._take(norm, learning_rate)
        self.gradients.zero_grad_buffer()
        return Step(norm, is_taken)

    @abstractmethod
    def sharded_state(self, model_state: Mapping[str, Any], *, loading: bool) -> dict[str, Any]:
        """Return the optimizer's state for `dist_checkpointing`, built on the model's `sharded_state_dict`."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what was loaded into `sharded_state(..., loading=True)`."""

    def gather(self) -> None:  # noqa: B027
        """Bring weights up to date that the next forward pass would else wait for; before they are read otherwise."""

    @abstractmethod
    def weights_changed(self) -> None:
        """Take in weights that were loaded behind the optimizer's back."""

    @abstractmethod
    def _square(self) -> torch.Tensor:
        """Compute the square of the norm of the whole model's mean gradient, equal on all ranks: float64 []."""

    @abstractmethod
    def _take(self, norm: float, learning_rate: float) -> None:
        """Clip and step."""


class _OnCpu(Optimizer):
    name = "torch AdamW"

    def __init__(self, model: Network, options: AdamW) -> None:
        super().__init__(model, options, distributed=False)
        self._weights: list[Any] = list(model.parameters())
        decaying: dict[str, Any] = {"params": [weight for weight in self._weights if weight.ndim > 1]}
        norms: dict[str, Any] = {"params": [weight for weight in self._weights if weight.ndim == 1]}
        self._inner = torch.optim.AdamW(
            [decaying, {**norms, "weight_decay": 0.0}],
            lr=0.0,
            betas=(options.beta1, options.beta2),
            eps=options.epsilon,
            weight_decay=options.weight_decay,
        )

    def sharded_state(self, model_state: Mapping[str, Any], *, loading: bool) -> dict[str, Any]:
        if loading or not self._inner.state:
            self._begin()
        shards = get_param_id_to_sharded_param_map(model_state, self._weights)
        return {
            # All weights step together, so one number stands for all.
            "step": int(self._inner.state[self._weights[0]]["step"]),
            "moments": {
                place: {
                    moment: make_sharded_optimizer_tensor(
                        shards[place], self._inner.state[weight][moment], prefix=f"optimizer.state.{moment}"
                    )
                    for moment in _MOMENTS
                }
                for place, weight in enumerate(self._weights)
            },
        }

    def load_state(self, state: dict[str, Any]) -> None:
        for place, weight in enumerate(self._weights):
            own = self._inner.state[weight]
            own["step"].fill_(state["step"])
            for moment in _MOMENTS:
                own[moment].copy_(state["moments"][place][moment])

    def weights_changed(self) -> None:
        """Do nothing: it steps on the weights themselves."""

    def _begin(self) -> None:
        for weight in self._weights:
            moments = {moment: torch.zeros_like(weight) for moment in _MOMENTS}
            self._inner.state[weight] = {"step": torch.zeros((), dtype=torch.float32), **moments}

    def _square(self) -> torch.Tensor:
        # A weight that several ranks hold whole is counted once: norms, and tied tables of the first and last stage.
        own = [
            weight.main_grad
            for weight in self._weights
            if param_is_not_tensor_parallel_duplicate(weight) and param_is_not_shared(weight)
        ]
        squares = [gradient.double().square().sum() for gradient in own]
        square = torch.stack(squares).sum() if squares else torch.zeros((), dtype=torch.float64)
        torch.distributed.all_reduce(square, group=parallel_state.get_model_parallel_group())
        return square

    def _take(self, norm: float, learning_rate: float) -> None:
        if norm > self.options.clip:
            self.gradients.scale_gradients(self.options.clip / norm)
        for weight in self._weights:
            weight.grad = weight.main_grad
        for group in self._inner.param_groups:
            group["lr"] = learning_rate
        self._inner.step()
        for weight in self._weights:
            weight.grad = None


class _OnGpu(Optimizer):
    name = "megatron-core DistributedOptimizer"

    def __init__(self, model: Network, options: AdamW, layout: Layout) -> None:
        # Not in pipelines, whose schedules start these meetings by themselves: nobody has run them so on a GPU.
        self._overlaps = layout.data_parallel > 1 and layout.pipeline_parallel == 1
        super().__init__(model, options, distributed=True, overlaps=self._overlaps)
        config = OptimizerConfig(
            optimizer="adam",
            lr=0.0,
            min_lr=0.0,
            weight_decay=options.weight_decay,
            adam_beta1=options.beta1,
            adam_beta2=options.beta2,
            adam_eps=options.epsilon,
            clip_grad=options.clip,
            bf16=bool(model.config.bf16),
            params_dtype=model.config.params_dtype,
            use_distributed_optimizer=True,
            overlap_param_gather=self._overlaps,
        )
        chained = get_megatron_optimizer(config, [self.gradients], use_gloo_process_groups=False)
        # One model without experts: a chain of one.
        [self._inner] = chained.chained_optimizers
        for group in self._inner.param_groups:
            # megatron-core leaves this product to its own scheduler of rates, which is not used here.
            group["weight_decay"] = options.weight_decay * group["wd_mult"]

    def sharded_state(self, model_state: Mapping[str, Any], *, loading: bool) -> dict[str, Any]:
        self._begin()
        state: dict[str, Any] = self._inner.sharded_state_dict(
            # Can be read again at any tensor, pipeline and data parallel size.
            model_state,
            is_loading=loading,
            metadata={"distrib_optim_sharding_type": "fully_reshardable"},
        )
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        moments = state.pop("param_state")
        self._inner.load_state_dict(state)
        # megatron-core 0.16 with torch's AdamW looks for `step` among the moments and fails: pop it, load the moments,
        # put it back. One tensor a weight: torch would raise a shared one once for each of them.
        steps = {weight: own.pop("step") for weight, own in self._inner.optimizer.state.items() if "step" in own}
        self._inner.load_parameter_state_from_fully_reshardable(moments)
        for weight, step in steps.items():
            self._inner.optimizer.state[weight]["step"] = step.clone()

    def gather(self) -> None:
        if self._overlaps:
            self.gradients.start_param_sync(force_sync=True)

    def weights_changed(self) -> None:
        self._inner.reload_model_params()

    def _begin(self) -> None:
        """Create the moments before the first step, as megatron-core expects them to be there."""
        adam = self._inner.optimizer
        for weight in (weight for group in adam.param_groups for weight in group["params"]):
            if not adam.state[weight]:
                adam.state[weight] = {moment: torch.zeros_like(weight) for moment in _MOMENTS}
                # torch's AdamW alone keeps a step for each weight.
                if isinstance(adam, torch.optim.AdamW):
                    adam.state[weight]["step"] = torch.zeros((), dtype=torch.float32)

    def _square(self) -> torch.Tensor:
        self._inner.prepare_grads()
        own = gradients_of_norm(self._inner)
        # Not by megatron-core's `get_grad_norm`, which reads the norm from the device.
        norm = torch.nn.utils.get_total_norm(own) if own else torch.zeros((), device=torch.cuda.current_device())
        square = norm.double().square()
        torch.distributed.all_reduce(square, group=self._inner.get_grad_stats_parallel_group())
        return square

    def _take(self, norm: float, learning_rate: float) -> None:
        for group in self._inner.param_groups:
            group["lr"] = learning_rate
        clip_grad_by_total_norm_fp32(self._inner.get_parameters(), self.options.clip, norm)
        self._inner.step_with_ready_grads()
