"""The tables `[model]` and `[training]`: a recipe writes them and a trainer reads them.

What is in them is said by `shards.training`, which the trainer may import and recipes may not.
"""

from orca_recipes.shards.training import ModelChoice, PhaseTraining, Training, adapter_refusal

__all__ = ["ModelChoice", "PhaseTraining", "Training", "adapter_refusal"]
