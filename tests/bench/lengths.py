"""Lengths of examples in tokens, to pack: those of the corpus, and drawn ones that no corpus has shaped."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.bench.corpus import Library, making, workshop
from tests.bench.measure import measure
from tests.bench.recipes import Build, students
from tests.bench.trials import COMMAND

_MEGABYTES = 150


def corpus_lengths(library: Library, work: Path, row_tokens: int) -> Callable[[int], np.ndarray]:
    """Lengths of the corpus' examples with the shared tokenizer, repeated or cut to as many as are asked for."""
    kept = work / "lengths-of-corpus.npy"
    if not kept.exists():
        with workshop(work) as folder, making(kept) as aside:
            np.save(aside, _built(library, Path(folder)))
    lengths = np.load(kept)
    lengths = lengths[lengths <= row_tokens]
    return lambda examples: np.resize(lengths, examples)


def log_normal_lengths(row_tokens: int) -> Callable[[int], np.ndarray]:
    """Many short examples and a long tail: median 200 tokens, one in six above 540, cut at a row."""

    def draw(examples: int) -> np.ndarray:
        drawn = np.random.default_rng(1).lognormal(mean=np.log(200), sigma=1.0, size=examples)
        return np.clip(drawn, 8, row_tokens).astype(np.int32)

    return draw


def _built(library: Library, folder: Path) -> np.ndarray:
    """int32 [examples], read from the records of a build."""
    import pyarrow.parquet as pq

    corpus = library.of_size(_MEGABYTES)
    student = students(library.shared, corpus, library.folder.parent)["sentencepiece"]
    recipe = Build(student, (corpus,)).write(folder / "recipe.toml")
    measure([COMMAND, "build", recipe, "--store", "store", "--out", "out"], folder=folder)
    found = [
        pq.read_table(path, columns=["tokens"])["tokens"].to_numpy()
        for path in sorted((folder / "out" / "main").glob("*.records.parquet"))
    ]
    return np.concatenate(found).astype(np.int32)
