"""The layout of a packed shard: one Megatron IndexedDataset pair whose modes carry loss mask, example bounds and roles.

A segment is a maximal span of one example with equal role and equal TRAINED bit. What a trainer needs is in the pair
itself: nothing is inferred from an end-of-text token, and no chat template is parsed at training time.

Stock readers of documents (`GPTDataset`, Megatron's --data-path) know nothing of modes: they would take each segment
for a document and train on every token. So behind the first segment of a shard stand guards (format 2): sequences of
mode GUARD that say an impossible length and lie before the file. Such a reader draws its samples by length, so that at
least GUARD_SHARE of GUARD_SHARE + 1 of them fall into a guard, and its first batch fails. Readers of rows leave out
what has mode GUARD; `IndexedDataset(prefix, multimodal=True)[0]` is the first segment as before.
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np

ROLES = ("mixed", "system", "user", "assistant", "tool")
"""Role names by the code that modes hold; "mixed" is for runs of tokens that hold two roles."""

TRAINED = 1
"""Mode bit: the tokens of the segment are targets of the loss."""
STARTS = 2
"""Mode bit: the segment is the first of an example."""
ROLE_SHIFT = 2
"""Modes hold the role code from this bit on."""
LARGEST_MODE = len(ROLES) - 1 << ROLE_SHIFT | STARTS | TRAINED
"""Role codes are dense and lie above the flags, so a mode is known exactly where it is from 0 to this."""

GUARD = -128
"""Mode of a sequence that is no segment: it holds no token, and fails readers that take segments for documents."""
GUARD_LENGTH = 2**31 - 1
"""Tokens that a guard says it has: the most that an index can say."""
GUARD_OFFSET = -(2**62)
"""Where a guard says its tokens lie: before the file, so that no reader finds any, from whichever of them it begins."""
GUARD_SHARE = 256
"""Guards of a shard say that they hold at least so many times its tokens."""

# Megatron's own, so that a stock IndexedDataset opens the pair.
MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
HEADER = struct.Struct("<9sQBQQ")
"""Magic, version, dtype code, number of segments, number of rows + 1."""
DTYPES: dict[int, np.dtype[Any]] = {8: np.dtype("<u2"), 4: np.dtype("<i4")}
"""Megatron's dtype code to the type of a token."""

TOKENIZER = "tokenizer/tokenizer.json"
"""Where a build directory keeps the tokenizer."""

_FIRST_WIDE_VOCABULARY = 65_500
"""Megatron's own rule (`DType.optimal_dtype`): narrower vocabularies get uint16."""


def token_dtype(vocabulary_size: int) -> np.dtype[Any]:
    """Return the type of a stored token, little-endian uint16 or int32, for a vocabulary with its added tokens."""
    return DTYPES[8] if vocabulary_size < _FIRST_WIDE_VOCABULARY else DTYPES[4]


def guards_of(tokens: int) -> int:
    """Compute the number of guards in a shard of so many tokens."""
    return max(1, -(-GUARD_SHARE * tokens // GUARD_LENGTH))


def segment_modes(*, trained: np.ndarray, starts: np.ndarray, roles: np.ndarray) -> np.ndarray:
    """Join modes from their parts.

    Args:
        trained, starts: bool [segments].
        roles: integers [segments], codes of ROLES.
    Returns: int8 [segments].
    """
    flags = np.where(trained, TRAINED, 0) | np.where(starts, STARTS, 0)
    return np.asarray(flags | roles.astype(np.int64) << ROLE_SHIFT, dtype=np.int8)


def is_trained(modes: np.ndarray) -> np.ndarray:
    """Return bool [segments]: which segments are targets of the loss."""
    return np.asarray(modes & TRAINED, dtype=np.bool_)


def starts_example(modes: np.ndarray) -> np.ndarray:
    """Return bool [segments]: which segments are the first of an example."""
    return np.asarray(modes & STARTS, dtype=np.bool_)


def role_codes(modes: np.ndarray) -> np.ndarray:
    """Return int8 [segments]: codes of ROLES."""
    return np.asarray(modes >> ROLE_SHIFT, dtype=np.int8)


def index_path(prefix: Path) -> Path:
    """Return the path of a pair's index; a prefix may hold dots, so a suffix is added and never replaced."""
    return prefix.with_name(f"{prefix.name}.idx")


def tokens_path(prefix: Path) -> Path:
    """Return the path of a pair's tokens."""
    return prefix.with_name(f"{prefix.name}.bin")


def records_path(prefix: Path) -> Path:
    """Return the path of a pair's records, a table with one line for each example."""
    return prefix.with_name(f"{prefix.name}.records.parquet")
