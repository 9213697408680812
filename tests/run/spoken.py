"""What a build holds, as text: the segments of every example, by where its row stood."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import polars as pl
from tokenizers import Tokenizer

from orca_recipes.shards.layout import is_trained
from orca_recipes.shards.reader import Shard


def trained_texts(directory: Path, dataset: str = "main") -> dict[int, list[str]]:
    """Place of a row to its trained segments, without the terminator of ChatML."""
    return {
        place: [text.removesuffix("<|im_end|>") for trained, text in segments if trained]
        for place, segments in _segments(directory, dataset)
    }


def context_texts(directory: Path, dataset: str = "main") -> dict[int, str]:
    """Place of a row to all that it holds and is not trained."""
    return {
        place: "".join(text for trained, text in segments if not trained)
        for place, segments in _segments(directory, dataset)
    }


def _segments(directory: Path, dataset: str) -> Iterator[tuple[int, list[tuple[bool, str]]]]:
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer" / "tokenizer.json"))
    for path in sorted((directory / dataset).glob("*.idx")):
        shard = Shard.open(path.with_suffix(""))
        places = pl.read_parquet(path.with_suffix(".records.parquet"))["line"].to_list()
        segments, tokens = shard.segments, shard.tokens.tolist()
        trained = is_trained(segments.modes).tolist()
        for example, place in enumerate(places):
            first, stop = segments.example_starts[example : example + 2].tolist()
            bounds = segments.token_starts[first : stop + 1].tolist()
            texts = [tokenizer.decode(tokens[begin:end], skip_special_tokens=False) for begin, end in pairwise(bounds)]
            yield place, list(zip(trained[first:stop], texts, strict=True))
