"""The trainer: reads shards, knows nothing of recipes."""

from orca_recipes.train.megatron_versions import compile_when_called, stand_in_for_triton

# Here, because every module of this room is imported after this one, and megatron-core by some of them.
stand_in_for_triton()
compile_when_called()
