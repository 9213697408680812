"""Training options of a build: a recipe's tables `[model]` and `[training]`, as `curriculum.json` holds them.

They stand here, beside the curriculum, because both sides read them: a recipe's spelling is checked when it is
loaded, and the trainer, which never sees a recipe, takes its defaults from the same classes.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())

    def given(self) -> dict[str, Any]:
        """Return the options given in the recipe, without the defaults of the others."""
        return self.model_dump(mode="json", exclude_unset=True)


class ModelChoice(_Table):
    """The model to train."""

    config: Annotated[
        str, Field(min_length=1, description="a named config, a config.json, a Hugging Face folder or a checkpoint")
    ] = "tiny"


class PhaseTraining(_Table):
    """Training options that each phase of the curriculum may set for itself."""

    learning_rate: Annotated[
        float, Field(gt=0, allow_inf_nan=False, description="the highest, reached when the warm-up ends")
    ] = 2e-5
    schedule: Annotated[
        Literal["constant", "linear", "cosine"], Field(description="how the learning rate falls after the warm-up")
    ] = "cosine"
    warmup_steps: Annotated[int, Field(ge=0, description="steps in which the learning rate rises from zero")] = 0
    final_learning_rate: Annotated[
        float, Field(ge=0, allow_inf_nan=False, description="where linear and cosine schedules end")
    ] = 0.0
    restart_schedule: Annotated[
        bool, Field(description="begin the schedule anew in each phase; false goes on with that of the phase before")
    ] = True
    batch_rows: Annotated[int, Field(ge=1, description="rows in a step, of all ranks together")] = 32
    micro_batch_rows: Annotated[int, Field(ge=1, description="rows that a rank computes at once")] = 1
    validation: Annotated[str | None, Field(description="the dataset to validate on, which is never trained on")] = None
    validate_every: Annotated[int, Field(ge=1, description="steps between two looks at the validation rows")] = 500
    validation_rows: Annotated[int, Field(ge=1, description="the most validation rows to look at")] = 256
    checkpoint_every: Annotated[int, Field(ge=1, description="steps between two checkpoints")] = 500


class Training(PhaseTraining):
    """Training options for all phases together."""

    seed: Annotated[int, Field(ge=0, lt=1 << 31, description="decides the order of rows, and fresh weights")] = 1
    weight_decay: Annotated[
        float, Field(ge=0, allow_inf_nan=False, description="weight decay of AdamW; norms have none")
    ] = 0.0
    beta1: Annotated[float, Field(ge=0, lt=1, description="AdamW: how slowly the mean of gradients changes")] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1, description="AdamW: how slowly the mean of their squares changes")] = 0.95
    epsilon: Annotated[float, Field(gt=0, allow_inf_nan=False, description="AdamW: keeps a division from zero")] = 1e-8
    clip_gradient: Annotated[
        float, Field(ge=0, allow_inf_nan=False, description="largest norm of the whole gradient; 0 never clips")
    ] = 1.0
    loss_normalization: Annotated[
        Literal["token", "example"],
        Field(description="token: each trained token weighs the same; example: each example does"),
    ] = "token"
    recompute: Annotated[bool, Field(description="recompute activations: less memory, a third more work")] = False
    recompute_modules: Annotated[
        Literal["none", "core_attn", "mlp", "both"],
        Field(description="recompute only these parts of each layer; not together with recompute"),
    ] = "none"
    deterministic: Annotated[
        bool, Field(description="give the same bits in every run at one layout, or refuse to train")
    ] = False
    async_checkpoints: Annotated[
        bool, Field(description="write checkpoints while the training goes on, from a copy in the host's memory")
    ] = False
    keep_checkpoints: Annotated[
        int, Field(ge=1, description="how many of the newest to keep, beside those at the ends of phases")
    ] = 2


def adapter_refusal(option: str) -> str | None:
    """Explain why an adapter option, such as one of LoRA, is refused; None for any other option.

    Args:
        option: a key of [training] or [model] that there is not.
    """
    if not (_OF_ADAPTERS & {*option.lower().split("_")}) and option.lower() not in _SETTINGS_OF_ADAPTERS:
        return None
    return (
        f'"{option}" is of adapters, and this trainer trains all weights: export the build for a trainer that has '
        "them, with orca-recipe export BUILD --to axolotl, llamafactory or bridge, or --to hf for TRL with a "
        "peft_config"
    )


_OF_ADAPTERS = frozenset(
    {
        "lora",
        "qlora",
        "dora",
        "qdora",
        "rslora",
        "adalora",
        "loraplus",
        "loftq",
        "loha",
        "lokr",
        "ia3",
        "oft",
        "boft",
        "vera",
        "peft",
        "adapter",
        "adapters",
        "bitfit",
    }
)
"""Words of which one in an option's name makes it one of adapters."""

_SETTINGS_OF_ADAPTERS = frozenset(
    {
        "finetuning_type",
        "load_in_4bit",
        "load_in_8bit",
        "modules_to_save",
        "num_virtual_tokens",
        "prefix_tuning",
        "prompt_tuning",
        "target_modules",
    }
)
