"""Writing a pair: tokens stream to `<prefix>.bin` in blocks, then `<prefix>.idx` says what they are.

Every token is held against the vocabulary before it is stored, because numpy and Megatron's own writer wrap a token
that does not fit uint16 (70,000 becomes 4,464) without a word. Files are written under their own names: whoever
publishes a pair writes it aside first.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from orca_recipes.shards.files import damage
from orca_recipes.shards.idx_file import Index, check_segments, contiguous_offsets, write_index
from orca_recipes.shards.layout import guards_of, index_path, token_dtype, tokens_path


def write_pair(
    *,
    prefix: Path,
    vocabulary_size: int,
    blocks: Iterator[np.ndarray],
    segment_lengths: np.ndarray,
    segment_modes: np.ndarray,
    row_starts: np.ndarray,
    guarded: bool = False,
) -> tuple[Path, Path]:
    """Write one contiguous pair and wait until it is on disk.

    A pair without rows is fine inside the store; Megatron cannot open one, so a build holds none.

    Args:
        prefix: path without suffix, in a folder that exists.
        vocabulary_size: with added tokens; decides the width of a token, and every token is below it.
        blocks: integers [tokens of the block], the tokens of all rows in order, in blocks of bounded size.
        guarded: readers that take segments for documents fail on the pair, see `layout`.
        segment_lengths: int32 [segments]. segment_modes: int8 [segments]. row_starts: int64 [rows + 1] into segments.
    Returns: the paths of `.bin` and `.idx`.
    Raises: DamagedShard where tokens, segments and rows do not fit one another; what was written so far stays.
    """
    bin_path, idx_path = tokens_path(prefix), index_path(prefix)
    dtype = token_dtype(vocabulary_size)
    check_segments(idx_path, segment_lengths, segment_modes, row_starts)
    written = _write_tokens(bin_path, vocabulary_size, blocks)
    expected = int(segment_lengths.sum(dtype=np.int64))
    if written != expected:
        raise damage(bin_path, f"{written} tokens were handed over for segments of {expected} tokens in all")
    offsets = contiguous_offsets(segment_lengths, dtype)
    guards = guards_of(expected) if guarded else 0
    write_index(idx_path, Index(dtype, segment_lengths, offsets, row_starts, segment_modes, guards))
    return bin_path, idx_path


def _write_tokens(path: Path, vocabulary_size: int, blocks: Iterator[np.ndarray]) -> int:
    dtype = token_dtype(vocabulary_size)
    written = 0
    # Blocks are large: a buffer would copy each once more.
    with path.open("wb", buffering=0) as file:
        for block in (block for block in blocks if len(block)):
            _check_vocabulary(path, block, vocabulary_size, written)
            _write_whole(file.fileno(), np.ascontiguousarray(block, dtype=dtype))
            written += len(block)
        # A manifest may stand on the disk before the tokens do, and promise what a loss of power took away.
        os.fsync(file.fileno())
    return written


def _check_vocabulary(path: Path, block: np.ndarray, vocabulary_size: int, written: int) -> None:
    # Two passes that hardly cost anything; the place is looked for only where something is wrong.
    if block.max() < vocabulary_size and block.min() >= 0:
        return
    at = int(np.flatnonzero((block >= vocabulary_size) | (block < 0))[0])
    raise damage(path, f"token {block[at]} at place {written + at} is outside the vocabulary of {vocabulary_size}")


def _write_whole(descriptor: int, tokens: np.ndarray) -> None:
    rest = tokens.data.cast("B")
    while rest:
        # One write may take less than it is given: Linux stops at 2 GiB, and a full disk in the middle.
        rest = rest[os.write(descriptor, rest) :]
