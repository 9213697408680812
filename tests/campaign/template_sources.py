"""Chat templates of public packages, downloaded without what they depend on and only read."""

import json
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SOURCES = (
    ("llama-cpp-python==0.3.36", ("--no-binary", "llama-cpp-python"), "models/templates/"),
    ("trl==1.16.0", (), "chat_templates/"),
    ("axolotl==0.19.0", (), "templates/"),
    ("ldp==1.10.0", (), "chat_templates/"),
)
"""What is downloaded, how, and the folder in it that holds templates."""

_BY_NAME = {"eos": ("<|im_end|>", "<|eot_id|>", "<|return|>", "</s>", "<end_of_turn>", "<｜end▁of▁sentence｜>")}
_BOS = ("<|begin_of_text|>", "<s>", "<bos>", "<｜begin▁of▁sentence｜>", "<|startoftext|>", "<BOS_TOKEN>")
_CONTROL = re.compile(
    r"<\|[^<>|\s{}'\"]{1,40}\|>|<｜[^<>｜\s]{1,40}｜>|</?s>|<(?:start|end|begin)_of_[a-z]+>|<(?:bos|eos|pad|unk|sop|sep)>"
    r"|\[/?[A-Z_]{3,30}\]|\[gMASK\]|<\|?[a-z_]+\|>|<\|[a-z_]+>|\[\|[a-z]+\|\]|\]?[~<!\[]{1,4}[be][~>!]\[|</?assistant>"
    r"|<SPECIAL_\d+>|<seed:[a-z_]+>|</?\w+_(?:start|end)>"
)
"""Texts that look like control tokens."""


@dataclass(frozen=True)
class Gathered:
    """A template, and what its tokenizer names."""

    name: str
    text: str
    bos: str | None
    eos: str
    control: tuple[str, ...] = field(default=())


def gathered(folder: Path | None) -> list[Gathered]:
    """The templates of a folder (NAME.jinja beside an optional NAME.json), or of public packages."""
    if folder is not None:
        return [_described(path) for path in sorted(folder.glob("*.jinja"))]
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as aside:
        for requirement, options, holder in SOURCES:
            words = ["-m", "pip", "download", "--quiet", "--no-deps", "--dest", aside, *options, requirement]
            subprocess.run([sys.executable, *words], check=True)
            package = requirement.partition("=")[0]
            archive = next(Path(aside).glob(f"{package.replace('-', '_')}-*"))
            found |= {f"{package}/{Path(name).stem}": text for name, text in _texts(archive, holder)}
    return [_guessed(name, text) for name, text in sorted(found.items())]


def _texts(archive: Path, holder: str) -> Iterator[tuple[str, str]]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for name in wheel.namelist():
                if holder in name and name.endswith(".jinja"):
                    yield name, wheel.read(name).decode()
        return
    with tarfile.open(archive) as source:
        for member in source:
            if holder in member.name and member.name.endswith(".jinja") and (file := source.extractfile(member)):
                yield member.name, file.read().decode()


def _described(path: Path) -> Gathered:
    guess = _guessed(path.stem, path.read_text(encoding="utf-8"))
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return guess
    told = json.loads(beside.read_text(encoding="utf-8"))
    control = told.get("control", guess.control)
    return Gathered(guess.name, guess.text, told.get("bos"), told.get("eos", guess.eos), tuple(control))


def _guessed(name: str, text: str) -> Gathered:
    control = tuple(dict.fromkeys(_CONTROL.findall(text)))
    eos = next((token for token in _BY_NAME["eos"] if token in control), "<|endoftext|>")
    bos = next((token for token in _BOS if token in text), "<s>" if "bos_token" in text else None)
    return Gathered(name, text, bos, eos, control)
