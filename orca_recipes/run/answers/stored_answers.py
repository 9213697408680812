"""Stored answers to a stage's requests, and their form in a part."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.answers import CUT, EMPTY, Answer, Lengths
from orca_recipes.contract.frames import BESIDE_ANSWER, answers_schema
from orca_recipes.run.answers.requests import asked_parts, keys_of
from orca_recipes.store.arrow_files import read_frame, write_frame
from orca_recipes.store.stage_folder import Part, PartWriter, StageFolder
from orca_recipes.traces.trace_store import Standing, TraceStore

if TYPE_CHECKING:
    import polars as pl

CUT_REASON = "cut: the answer was not finished within max_tokens"

Chosen = Mapping[str, np.ndarray]
"""Which requests of an `ask` stage are meant: part to bool [requests]."""

_TRIES = 3
"""A segment that was exchanged under the index is read anew; more often than this, something is at it all the time."""


@dataclass
class Digest:
    """The digest of a stage's answers, whatever their order and however often each is used."""

    _seen: set[bytes] = field(default_factory=set)

    def add(self, answer: Answer) -> None:
        told = [answer.key.hex(), answer.text, answer.finish_reason, answer.reason]
        if answer.reasoning is not None or answer.tool_calls is not None:
            told += [answer.reasoning, answer.tool_calls]
        self._seen.add(hashlib.blake2b(repr(told).encode("utf-8", "surrogatepass"), digest_size=16).digest())

    def text(self) -> str:
        """Write it as "blake2b:<64 hex>"."""
        return "blake2b:" + hashlib.blake2b(b"".join(sorted(self._seen)), digest_size=32).hexdigest()


def missing(
    asked: StageFolder, traces: TraceStore, lengths: Lengths, chosen: Chosen | None = None
) -> Iterator[tuple[Part, dict[bytes, Standing]]]:
    """Yield the standing of each request of a finished `ask` stage, part by part; a key is in each part that has it.

    Args:
        chosen: the requests that are looked at, all where it is null.
    """
    for part in asked_parts(asked):
        yield part, traces.standings(keys_of(part, None if chosen is None else chosen[part.name]), lengths)


def answer_parts(
    asked: StageFolder, folder: StageFolder, traces: TraceStore, lengths: Lengths, chosen: Chosen | None = None
) -> dict[str, Any]:
    """Make the stage of answers that are all kept, and report it; requests that are not chosen have null for answer.

    Raises: KeyError with the number of those that are not.
    """
    digest, names = Digest(), []
    rows = requests = rejected = empty = 0
    for part in asked_parts(asked):
        mine = None if chosen is None else chosen[part.name]
        answers = answers_of(keys_of(part, mine), traces, lengths)
        keys = read_frame(part.file(".arrow"), columns=["key"])["key"]
        frame = answers_frame(keys if mine is None else _only(keys, mine), answers, lengths)
        writer = PartWriter(folder.path, part.name)
        write_frame(writer.path(".arrow"), frame)
        writer.keep([".arrow"], {})
        for answer in answers.values():
            digest.add(answer)
        names.append(part.name)
        rows, requests = rows + frame.height, requests + frame.height - frame["key"].null_count()
        rejected += frame.height - frame["reason"].null_count()
        empty += int(frame["key"].is_in([key for key, answer in answers.items() if answer.is_empty]).sum())
    report = {"in": rows, "out": rows, "rejected": {}, "requests": requests, "refused": rejected}
    report |= {"empty": empty} if empty else {}
    return {**report, "digest": digest.text(), "parts": names}


def answers_of(keys: list[bytes], traces: TraceStore, lengths: Lengths) -> dict[bytes, Answer]:
    """Return the answer to each request. Raises: KeyError with the number of those without an answer."""
    found: dict[bytes, Answer] = {}
    for _ in range(_TRIES):
        rest = [key for key in keys if key not in found]
        entries = {key: stand.last for key, stand in traces.standings(rest, lengths).items() if stand.last}
        found |= traces.read(entries)
        if len(found) == len(keys):
            return found
        traces.refresh()
    raise KeyError(len(keys) - len(found))


def answers_frame(keys: pl.Series, answers: dict[bytes, Answer], lengths: Lengths) -> pl.DataFrame:
    """Return columns of `frames.ANSWERS`, key, and the tokens that were counted; null where nothing was asked.

    Columns of `frames.BESIDE_ANSWER` follow where some answer holds such a thing.
    """
    import polars as pl

    beside = [name for name in BESIDE_ANSWER if any(getattr(one, name) is not None for one in answers.values())]
    lines: list[Sequence[Any]] = []
    for key in keys:
        if key is None:
            lines.append([None] * (6 + len(beside)))
            continue
        answer = answers[key]
        reason = answer.reason
        if answer.finish_reason == CUT and answer.reason is None:
            blank = EMPTY if not (answer.text or "").strip() and answer.tool_calls is None else None
            reason = blank if lengths.keep_cut else CUT_REASON
        held = [answer.text, *(getattr(answer, name) for name in beside)]
        text, *more = held if reason is None else [None] * len(held)
        lines.append([text, answer.finish_reason, reason, key, answer.input_tokens, answer.output_tokens, *more])
    schema = {**answers_schema(), "key": pl.Binary, "input_tokens": pl.Int64, "output_tokens": pl.Int64}
    schema |= dict.fromkeys(beside, pl.String)
    return pl.DataFrame(lines, schema=schema, orient="row")


def _only(keys: pl.Series, chosen: np.ndarray) -> pl.Series:
    import polars as pl

    return pl.select(pl.when(pl.Series(chosen)).then(keys)).to_series()
