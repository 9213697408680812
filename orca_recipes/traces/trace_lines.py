"""One trace as one line of a segment: a digest, a space, JSON.

The digest is what tells an answer that was written whole from one that was cut off or damaged, whatever the file
system made of the end of a file. The question stands beside its answer, so that a trace can be read years later and its
key can be checked wherever it was copied from.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from orca_recipes.contract.answers import Answer, Request, request_key
from orca_recipes.contract.tool_calls import calls_told

DIGEST_DIGITS = 32
KEY_BYTES = 32

MOST_COUNT = 10**12
"""The most tokens that one exchange can have; far below 64 bits, so that sums of millions of them hold too."""
EARLIEST_TIME, LATEST_TIME = 1_262_304_000.0, 4_102_444_800.0
"""2010 and 2100, in seconds since 1970: a time outside comes from a clock that was never set, or was made up."""
_DIGITS_SHOWN, _NAME_CHARS = 24, 100

BESIDE_TEXT = ("reasoning", "tool_calls")
"""What an answer may hold beside its text; a line has no such field where there is none."""
_TEXTS = ("text", "finish_reason", "reason", "model_asked", "model_reported", "endpoint", "request_id", *BESIDE_TEXT)
COUNTS = ("input_tokens", "cached_input_tokens", "output_tokens", "max_tokens")
_OPTIONAL = frozenset({"text", "reason", "model_reported", "request_id", *BESIDE_TEXT, *COUNTS})


@dataclass(frozen=True)
class Question:
    """The question of a trace: everything in the digest of its key."""

    messages: tuple[tuple[str, str], ...]
    sampling: Mapping[str, Any] = field(default_factory=dict)
    sample: int = 0
    beside: tuple[str | None, ...] = ()
    tools: str | None = None

    def key(self) -> bytes:
        return request_key(
            messages=self.messages,
            sampling=self.sampling,
            sample=self.sample,
            beside=self.beside,
            tools=self.tools,
        )

    def request(self, key: bytes, max_tokens: int | None) -> Request:
        """Return the request that asks this."""
        return Request(key, self.messages, self.sample, max_tokens, self.beside, self.tools)


@dataclass(frozen=True)
class Trace:
    """A question and its answer; the question is null where a teacher kept an answer to something that nobody asked."""

    answer: Answer
    question: Question | None


def encode(trace: Trace) -> bytes:
    """Encode a trace as a line, with its line end. Halves of surrogate pairs, which no file can hold, become U+FFFD;
    impossible counts become null."""
    text = json.dumps(as_json(trace), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    try:
        data = text.encode()
    except UnicodeEncodeError:
        data = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
    return digest_of(data).encode() + b" " + data + b"\n"


def decode(line: bytes) -> Trace | None:
    """Decode a line, with or without its line end; None where it is not as it was written."""
    digest, _, data = line.rstrip(b"\n").partition(b" ")
    if digest != digest_of(data).encode():
        return None
    try:
        return from_json(json.loads(data))
    except (ValueError, RecursionError):
        return None


def digest_of(data: bytes) -> str:
    """Return BLAKE2b-128 of a line's JSON."""
    return hashlib.blake2b(data, digest_size=DIGEST_DIGITS // 2).hexdigest()


def as_json(trace: Trace) -> dict[str, Any]:
    """Convert a trace to a JSON table, its key in hexadecimal digits."""
    answer, asked = trace.answer, trace.question
    table = {part.name: getattr(answer, part.name) for part in fields(answer)}
    table = {name: value for name, value in table.items() if name not in BESIDE_TEXT or value is not None}
    table |= {name: None for name in COUNTS if not is_count(table[name])}
    table["time"] = answer.time if math.isfinite(answer.time) else 0.0
    question = None
    if asked is not None:
        messages = [list(message) for message in asked.messages]
        question = {"messages": messages, "sampling": dict(asked.sampling), "sample": asked.sample}
        question |= {"beside": list(asked.beside)} if any(asked.beside) else {}
        question |= {} if asked.tools is None else {"tools": asked.tools}
    return {**table, "key": answer.key.hex(), "question": question}


def from_json(table: Any) -> Trace:
    """Parse a trace from a JSON table; an impossible count or time is not believed, and nothing else is lost.

    Raises: ValueError, with what is wrong, where it holds none.
    """
    if not isinstance(table, dict):
        raise ValueError("it is no table")
    known = {part.name for part in fields(Answer)} | {"question"}
    table = {**dict.fromkeys(BESIDE_TEXT), **table}
    if table.keys() != known:
        odd = sorted(known ^ table.keys())
        told = ", ".join(name[:_NAME_CHARS] for name in odd[:3])
        raise ValueError(f"its fields are not those of a trace ({told})")
    question = _question(table.pop("question"))
    for names, kind in ((_TEXTS, str), (COUNTS, int)):
        for name in names:
            value = table[name]
            if not (type(value) is kind or (value is None and name in _OPTIONAL)):
                raise ValueError(f"{name} is no {'text' if kind is str else 'whole number'}")
    if (table["text"] is None) == (table["reason"] is None):
        raise ValueError("it has to hold either a text or the reason why there is none")
    if table["tool_calls"] is not None:
        table["tool_calls"] = calls_told(json.loads(table["tool_calls"]))
    counts = {name: table[name] if is_count(table[name]) else None for name in COUNTS}
    return Trace(Answer(**{**table, **counts, "key": _key(table["key"]), "time": _time(table["time"])}), question)


def is_count(value: int | None) -> bool:
    """Tell whether a count is possible: null, or a whole number within bounds."""
    return value is None or 0 <= value <= MOST_COUNT


def is_time(value: float) -> bool:
    """Tell whether a time is possible: answers are no older than models, clocks beyond the bounds mean nothing."""
    return EARLIEST_TIME <= value <= LATEST_TIME


def oddities(line: bytes) -> list[str]:
    """List the fields of a whole line that are not believed, such as "output_tokens is -3"."""
    table = json.loads(line.partition(b" ")[2])
    odd = [name for name in COUNTS if not is_count(table[name])]
    return [_told(name, table[name]) for name in [*odd, *([] if is_time(_time(table["time"])) else ["time"])]]


def _told(name: str, value: Any) -> str:
    text = str(value)
    return f"{name} is {text[:_DIGITS_SHOWN]}{'...' if len(text) > _DIGITS_SHOWN else ''}"


def _question(table: Any) -> Question | None:
    if table is None:
        return None
    try:
        messages = tuple((str(role), str(content)) for role, content in table["messages"])
        beside = tuple(None if text is None else str(text) for text in table.get("beside") or ())
        if len(beside) not in (0, len(messages)):
            raise ValueError("there is not one thing beside each message")
        tools = table.get("tools")
        told = (beside, None if tools is None else str(tools))
        return Question(messages, dict(table["sampling"]), int(table["sample"]), *told)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError("question holds no messages, sampling and sample") from error


def _key(value: Any) -> bytes:
    try:
        key = bytes.fromhex(value)
    except (TypeError, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ValueError(f"key is not {2 * KEY_BYTES} hexadecimal digits")
    return key


def _time(value: Any) -> float:
    """Convert a time to a float; infinite where a float cannot hold it. Raises: ValueError where it is no number."""
    if type(value) not in (int, float):
        raise ValueError("time is no number")
    try:
        return float(value)
    except OverflowError:
        return float("inf")
