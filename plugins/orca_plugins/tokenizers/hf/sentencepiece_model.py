"""A SentencePiece `.model` as a tokenizer.json.

The file is a protobuf message (sentencepiece_model.proto of google/sentencepiece), read here field by field, because
the protobuf package is no dependency. BPE merges are not in it: any two pieces that make a piece are a merge, ranked by
the score of what they make. SentencePiece breaks ties of scores from left to right, which ranked merges cannot say; the
longer left part first comes to the same for runs of one character, where such ties live (LLaMA's runs of spaces).
What is made here is compared with SentencePiece itself before it is used.
"""

import base64
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from orca_plugins.tokenizers.hf.tokenizer_json import Definition
from orca_recipes.errors import TokenizerError

SPACE = "\u2581"

# Field numbers and values of sentencepiece_model.proto.
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_UNIGRAM, _BPE = 1, 2
# The numbers of sentencepiece_model.proto: the file is read without its library.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6


@dataclass(frozen=True)
class Piece:
    """One piece of the vocabulary; its id is its place."""

    text: str
    score: float
    type: int


@dataclass(frozen=True)
class Model:
    """The settings by which a `.model` cuts text, with the defaults of the proto filled in."""

    pieces: tuple[Piece, ...]
    type: int
    byte_fallback: bool
    spaces_behind: bool
    character_map: bytes
    dummy_prefix: bool
    single_spaces: bool
    escaped_spaces: bool


def convert(data: bytes, name: str) -> Definition:
    """Convert a `.model` to a tokenizer.json.

    Raises: TokenizerError where the file is none, or says what a tokenizer.json cannot.
    """
    model = _read(data, name)
    reason = _beyond_reach(model)
    if reason:
        raise TokenizerError(f"{name} {reason}; name its tokenizer.json instead, where it has one")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(piece, place) for place, piece in enumerate(model.pieces) if _is_added(piece)],
        "normalizer": {"type": "Sequence", "normalizers": _normalizers(model)},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": _decoders(model)},
        "model": _unigram(model) if model.type == _UNIGRAM else _bpe(model),
    }


def _beyond_reach(model: Model) -> str | None:
    if model.type not in (_UNIGRAM, _BPE):
        return "is a SentencePiece model of words or characters"
    if model.spaces_behind or not model.escaped_spaces:
        return "writes spaces in a way of its own (treat_whitespace_as_suffix, escape_whitespaces)"
    if any(piece.type == _UNUSED for piece in model.pieces):
        return "has unused pieces, which SentencePiece takes apart again"
    if model.dummy_prefix and any(piece.type == _USER_DEFINED for piece in model.pieces):
        return "has user-defined pieces beside a dummy prefix, and would get a prefix after each of them"
    return None


def _normalizers(model: Model) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    if model.character_map:
        encoded = base64.b64encode(model.character_map).decode("ascii")
        steps.append({"type": "Precompiled", "precompiled_charsmap": encoded})
    if model.single_spaces:
        steps.append({"type": "Replace", "pattern": {"Regex": r"\A +"}, "content": ""})
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    if model.dummy_prefix:
        steps.append({"type": "Prepend", "prepend": SPACE})
    steps.append({"type": "Replace", "pattern": {"String": " "}, "content": SPACE})
    if model.single_spaces:  # at the end, SPACE in the text itself goes as well
        steps.append({"type": "Replace", "pattern": {"Regex": f"{SPACE}+\\z"}, "content": ""})
    return steps


def _decoders(model: Model) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    return [*steps, {"type": "Strip", "content": " ", "start": 1, "stop": 0}] if model.dummy_prefix else steps


def _is_added(piece: Piece) -> bool:
    """Tell whether a piece is a control piece, or a user-defined one that text can reach: spaces are escaped before
    those are looked for."""
    return piece.type in (_UNKNOWN, _CONTROL) or (piece.type == _USER_DEFINED and " " not in piece.text)


def _added(piece: Piece, place: int) -> dict[str, Any]:
    user_defined = piece.type == _USER_DEFINED
    return {
        "id": place,
        "content": piece.text,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": user_defined,
        "special": not user_defined,
    }


def _unigram(model: Model) -> dict[str, Any]:
    return {
        "type": "Unigram",
        "unk_id": next((place for place, piece in enumerate(model.pieces) if piece.type == _UNKNOWN), None),
        "vocab": [[piece.text, piece.score] for piece in model.pieces],
        "byte_fallback": model.byte_fallback,
    }


def _bpe(model: Model) -> dict[str, Any]:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": next((piece.text for piece in model.pieces if piece.type == _UNKNOWN), None),
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": model.byte_fallback,
        "ignore_merges": False,
        "vocab": {piece.text: place for place, piece in enumerate(model.pieces)},
        "merges": _merges(model),
    }


def _merges(model: Model) -> list[list[str]]:
    """List the merges of normal pieces alone: control, unknown and byte pieces are never made of text."""
    places = {piece.text: place for place, piece in enumerate(model.pieces) if piece.type == _NORMAL}
    ranked = []
    for text, place in places.items():
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in places and right in places:
                # Ties go to the longer left part, as SentencePiece merges a run from the left.
                order = (-model.pieces[place].score, -len(left), -len(right), place, places[left])
                ranked.append((order, [left, right]))
    ranked.sort(key=lambda merge: merge[0])
    return [parts for _, parts in ranked]


def _read(data: bytes, name: str) -> Model:
    pieces: list[Piece] = []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    try:
        for number, value in _fields(data):
            if number == _PIECES:
                pieces.append(_piece(dict(_fields(value))))
            elif number == _TRAINER:
                trainer = dict(_fields(value))
            elif number == _NORMALIZER:
                normalizer = dict(_fields(value))
    except (ValueError, IndexError, TypeError, AttributeError, struct.error):
        pieces = []
    if not pieces:
        raise TokenizerError(f"{name} is not a SentencePiece model; name a tokenizer.json or a `.model` file")
    return Model(
        pieces=tuple(pieces),
        # Field numbers and defaults of TrainerSpec and NormalizerSpec in the proto.
        type=trainer.get(3, _UNIGRAM),
        byte_fallback=bool(trainer.get(35, 0)),
        spaces_behind=bool(trainer.get(24, 0)),
        character_map=normalizer.get(2, b""),
        dummy_prefix=bool(normalizer.get(3, 1)),
        single_spaces=bool(normalizer.get(4, 1)),
        escaped_spaces=bool(normalizer.get(5, 1)),
    )


def _piece(fields: dict[int, Any]) -> Piece:
    (score,) = struct.unpack("<f", fields.get(2, b"\0\0\0\0"))
    return Piece(text=fields.get(1, b"").decode("utf-8"), score=score, type=fields.get(3, _NORMAL))


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field: an int for a varint, bytes for what is delimited or fixed."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = _varint(message, place)
            yield number, value
            continue
        if wire == 2:
            length, place = _varint(message, place)
        else:
            length = {1: 8, 5: 4}[wire] if wire in (1, 5) else _refuse(wire)
        if place + length > len(message):
            raise ValueError("a field ends past its message")
        yield number, message[place : place + length]
        place += length


def _refuse(wire: int) -> int:
    raise ValueError(f"wire type {wire}")


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, place
        shift += 7
