"""Compiles instruction-tuning data: a recipe becomes packed Megatron shards."""

__version__ = "0.1.0"
