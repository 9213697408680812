"""Quotations between texts: all words of a short text, or eight words in a row of a longer one.

Words are what stands between white space, whatever their case. One definition serves the filter that finds answers that
quote their instruction and the proof that no erased instruction is left in what the student sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orca_recipes.contract.frames import repeated

if TYPE_CHECKING:
    import polars as pl

RUN_WORDS = 8
FEWEST_WORDS = 4
"""A text of fewer words is a common turn of phrase, and using it is no quotation."""

_EDGES = " \t\r\n.,;:!?\"'()[]{}*-"


def runs_of(text: str, *, fewest_words: int = FEWEST_WORDS) -> tuple[str, ...]:
    """List the word runs of a text, at least one of which a quotation holds: each run of eight words, or all of a
    shorter text; empty below fewest_words."""
    words = _plain(text).split(" ")
    if len(words) < max(fewest_words, 1) or words == [""]:
        return ()
    spans = [words[start : start + RUN_WORDS] for start in range(max(1, len(words) - RUN_WORDS + 1))]
    return tuple(dict.fromkeys(run for span in spans if (run := " ".join(span).strip(_EDGES))))


def quoting(texts: pl.Series, sources: pl.Series, *, fewest_words: int = FEWEST_WORDS) -> pl.Series:
    """Tell for each text whether it quotes its source.

    Args:
        texts, sources: String [n]; null quotes nothing and is quoted by nothing. Few distinct sources are fast.
    Returns: Boolean [n], without nulls.
    """
    import polars as pl

    if sources.null_count() == len(sources):
        return repeated(False, pl.Boolean, len(sources))
    frame = pl.DataFrame({"text": texts, "source": sources}).with_row_index("row")
    known = frame.filter(pl.col("text").is_not_null() & pl.col("source").is_not_null())
    found = [pl.Series("row", [], dtype=frame["row"].dtype)]
    for (source,), group in known.group_by("source", maintain_order=True):
        runs = runs_of(str(source), fewest_words=fewest_words)
        if runs:
            held = _spaced(group["text"]).str.contains_any(list(runs), ascii_case_insensitive=True)
            found.append(group["row"].filter(held))
    return frame.select(pl.col("row").is_in(pl.concat(found).implode()))["row"]


def quoted_runs(text: str, source: str, *, fewest_words: int = FEWEST_WORDS) -> tuple[str, ...]:
    """List the runs of a source that occur in a text."""
    plain = _plain(text)
    return tuple(run for run in runs_of(source, fewest_words=fewest_words) if run in plain)


def _plain(text: str) -> str:
    """Return words in small letters, one space apart. Only ASCII letters are made small, as the fast search does."""
    return " ".join("".join(chr(ord(char) + 32) if "A" <= char <= "Z" else char for char in text).split())


def _spaced(texts: pl.Series) -> pl.Series:
    """Return texts whose words stand one space apart; most do already, and are looked at and no more."""
    import polars as pl

    # polars' regex is Rust's, where [a--b] means a without b.
    odd = texts.str.contains(r"[\s--\x20]|  ")
    if not odd.any():
        return texts
    return pl.select(pl.when(odd).then(texts.str.replace_all(r"\s+", " ")).otherwise(texts)).to_series()
