"""Embeddings of tokens that a trained model did not have.

A token that the build's tokenizer added starts as the mean of all trained embeddings, in the input and in the output:
so it is as likely as the average token, and the first steps are calm. Rows that only pad the table are zero.

Source: Hewitt, "Initializing New Word Embeddings for Pretrained Language Models" (2021).
"""

from __future__ import annotations

import torch
from megatron.core import parallel_state

from orca_recipes.train.model.network import Network, embedding_tables, rows_here


def grow(model: Network, known: int) -> None:
    """Set every row of the tables beyond the `known` trained tokens. Every tensor parallel rank calls it."""
    for table in embedding_tables(model):
        grow_table(table, known, model.architecture.vocabulary_size)


@torch.no_grad()
def grow_table(table: torch.Tensor, known: int, tokens: int) -> None:
    """Set the rows of this rank's part of a table that belong to no trained token, of so many `tokens` in all.

    The mean is summed in float64, so that rounding does not depend on the layout.
    """
    known_here, tokens_here = rows_here(known, len(table)), rows_here(tokens, len(table))
    if known < tokens:
        total = table[:known_here].sum(dim=0, dtype=torch.float64)
        torch.distributed.all_reduce(total, group=parallel_state.get_tensor_model_parallel_group())
        table[known_here:tokens_here] = (total / known).to(table.dtype)
    table[tokens_here:] = 0
