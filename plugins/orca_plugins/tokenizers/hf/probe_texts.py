"""Texts made to tell two tokenizers apart.

They stress what tokenizers disagree about: where digits, white space, marks and scripts are cut, bytes that no piece
covers, runs that are merged in several ways, and texts that look like tokens. They are made by rule and by a fixed
seed, so that a verdict means the same on every machine.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources

import numpy as np

from orca_recipes.contract.draws import splitmix64


@dataclass(frozen=True)
class _Material:
    """The material of the texts (probes.json)."""

    spaces: str
    words: tuple[str, ...]
    passages: tuple[str, ...]


def probes(token_texts: Iterable[str]) -> list[str]:
    """Make the texts, without repeats.

    Args:
        token_texts: texts of the tokenizer's own added tokens, tried as users would type them.
    """
    table = json.loads(resources.files(__package__).joinpath("probes.json").read_bytes())
    material = _Material(table["spaces"], tuple(table["words"]), tuple(table["passages"]))
    texts = [*_lengths(), *_edges(material), *material.passages, *_around(token_texts), *_mixed(material, 160)]
    return list(dict.fromkeys(texts))


def _lengths() -> Iterator[str]:
    """Yield runs of one character, as long as merges and splits of digits and spaces care for, and beyond."""
    for length in (1, 2, 3, 4, 5, 7, 8, 9, 13, 15, 16, 17, 31, 32, 33, 35, 64, 97):
        yield from (character * length for character in " \n\t")
        yield "1234567890"[: length % 10] + "7" * length
    for character in "\raA-=.é中👍\x00\u0301\u3000":
        yield from (character * length for length in (3, 16, 40))
    yield from ("x" * 3000, "ab" * 700, "the " * 300, " \n" * 50, "\r\n" * 20)


def _edges(material: _Material) -> Iterator[str]:
    yield ""
    for space in material.spaces:
        yield from (f"a{space}b", f"{space}a", f"a{space}", f"a {space}\n b")
    for word in material.words:
        yield from (word, f" {word}  {word}\n{word}")
    yield from ("\n\nfoo", "foo\n\n", " \n foo", "foo \n", "  leading", "trailing  ", "a  b   c    d", "user\n\nfoo")


def _around(token_texts: Iterable[str]) -> Iterator[str]:
    for text in token_texts:
        yield from (text, f"a{text}b", f" {text} ", f"{text}{text}\n", text[:-1])


def _mixed(material: _Material, count: int) -> Iterator[str]:
    """Yield words, spaces and single characters in drawn order."""
    alphabet = [
        *material.words,
        *material.spaces,
        *material.passages[:2],
        " ",
        " ",
        "\n",
        "the",
        " of",
        "ing",
        "2024",
        ".",
    ]
    with np.errstate(over="ignore"):
        draws = splitmix64(np.arange(count * 24, dtype=np.uint64)).reshape(count, 24)
    for row in (draws >> np.uint64(16)).tolist():
        length = 2 + row[0] % 22
        yield "".join(alphabet[draw % len(alphabet)] for draw in row[1 : 1 + length])
