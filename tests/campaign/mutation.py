"""Inputs spoilt at random, from sound ones: what a disk, an editor or an enemy might make of a file."""

import json
import random
from collections.abc import Sequence
from typing import Any

TOKENS = [
    *(bytes([byte]) for byte in (0, 9, 10, 13, 0x1B, 0x22, 0x27, 0x2C, 0x5B, 0x5D, 0x7B, 0x7D, 0x7F, 0x80, 0xC3, 0xFF)),
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    b"\xed\xa0\x80",
    b"\r\n",
    b"\\",
    b"\\ud800",
    b"\\u0000",
    b'""',
    b"null",
    b"true",
    b"NaN",
    b"-Infinity",
    b"Inf",
    b"1e999",
    b"-0",
    b"0.5",
    b"18446744073709551616",
    b"[" * 120,
    b"]" * 120,
    b'{"a":' * 120,
    b'"question": ',
    b'"messages": [{"role": "user", "content": "x"}]',
    b'{"question": "y"}',
    b"[[x]]\n",
    b"[x]\n",
    b" = ",
    b'"""',
    b"{{ ",
    b" }}",
    b"{% for i in range(9) %}",
    b"{% endfor %}",
    b"{%- if ",
    b"{% endif %}",
    b"message",
    b"|trim",
    b" ~ ",
]
TEXTS = [
    "",
    "a",
    " a ",
    "x,y",
    'say "so"',
    "two\nlines",
    "a\r\nb",
    "漢字",
    "a\u2028b",
    "\x00",
    "\x1b[31m",
    "é" * 40,
    "-0",
]


def spoilt(sound: bytes, chance: random.Random, *, others: Sequence[bytes] = ()) -> bytes:
    """A few changes to the bytes, most often one."""
    data = bytearray(sound)
    for _ in range(1 + int(chance.expovariate(0.8))):
        at = chance.randrange(len(data) + 1)
        stop = min(len(data), at + 1 + int(chance.expovariate(0.1)))
        match chance.randrange(9):
            case 0 if data:
                data[at - 1] ^= 1 << chance.randrange(8)
            case 1 if data:
                data[at - 1] = chance.randrange(256)
            case 2:
                del data[at:stop]
            case 3:
                data[at:at] = data[at:stop]
            case 4 if others:
                other = chance.choice(others)
                begin = chance.randrange(len(other) + 1)
                data[at:stop] = other[begin : begin + chance.randrange(1, 60)]
            case 5 if chance.random() < 0.2:
                del data[at:]
            case 6:
                data[at:at] = chance.randbytes(chance.randrange(1, 5))
            case _:
                data[at : at if chance.random() < 0.7 else stop] = chance.choice(TOKENS)
    return bytes(data)


def row(chance: random.Random) -> dict[str, Any]:
    """A row of a data file, mostly a sound one."""
    found: dict[str, Any] = {}
    for name in ("question", "reference", "answer", "task", "id", "system", "messages", "other"):
        if chance.random() < (0.9 if name == "question" else 0.3):
            found[name] = value(chance, name)
    return found


def value(chance: random.Random, name: str) -> Any:
    """A value of a column, mostly of a type that it may have."""
    if chance.random() < 0.1:
        return chance.choice(
            [None, True, 1, -7, 2**70, 1.5, float("nan"), [], {}, [None], ["a", 1], {"a": "b"}, "\ud800"]
        )
    if name == "messages":
        roles = ["system", "user", "assistant", "tool", "user", "assistant"]
        return [
            {"role": chance.choice(roles), "content": chance.choice(TEXTS)} for _ in range(chance.randrange(1, 4))
        ] + chance.choices(
            [[], [None], [{"from": "human", "value": "a"}], [{"role": "user", "note": 1}]], [9, 1, 1, 1]
        )[0]
    if name == "reference" and chance.random() < 0.4:
        return [chance.choice(TEXTS) for _ in range(chance.randrange(3))]
    return chance.choice(TEXTS)


def lines(chance: random.Random) -> bytes:
    """A file of JSON lines, sound but for its values."""
    end = chance.choice(["\n", "\n", "\n", "\r\n", "\n\n"])
    rows = [row(chance) for _ in range(chance.randrange(1, 6))]
    return "".join(
        json.dumps(one, ensure_ascii=chance.random() < 0.5 or "\\ud" in json.dumps(one)) + end for one in rows
    ).encode()
