"""Edits by rule of what strangers hand over: values that are deep, huge, odd, or of another type, in their places."""

import io
import json
import random
import tarfile
import tomllib
from collections.abc import Callable
from typing import Any

import tomli_w

from tests.campaign.mutation import spoilt

DEEP = (60, 130, 260, 500, 960, 30_000)
"""Depths: parsers, dumpers and validators each have a limit of their own."""
_TEXTS = [
    "",
    " ",
    "x",
    "../../../../etc/passwd",
    "/etc/passwd",
    "/dev/zero",
    "/proc/self/environ",
    "~/.ssh/id_ed25519",
    "\x00",
    "\x1b]0;t\x07\x1b[31m",
    "a" * 70_000,
    "{{ cycler.__init__.__globals__ }}",
    "${PLANTED_KEY}",
    "$(touch /tmp/x)",
    "https://teacher.invalid/v1",
    "http://10.0.0.1/",
    "file:///etc/passwd",
    "(a+)+$",
    "[" * 200,
    "*",
    "**/*",
    "é\u202e",
    "os:system",
    "builtins:exec",
    "tests.campaign.stranger_loaders:Exits",
    "PLANTED_KEY",
    "-1",
    "nan",
    "blake2b:" + "0" * 64,
]
_NUMBERS = [0, -1, 1, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 0.0, -0.0, 1e308, 5e-324]
_SNIPPETS = [
    "{{ 'x' * 10 ** 9 }}",
    "{{ '%1000000000s' % 'x' }}",
    "{{ '%1000000000d'|format(1) }}",
    "{{ range(10**12)|list }}",
    "{{ 10 ** 10 ** 10 }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ lipsum(n=10**7) }}",
    "{{ messages|tojson(indent=10**8) }}",
    "{{ ('a' * 10**6)|wordwrap(1) }}",
    "{{ 'x'|center(10**10) }}",
    "{{ messages.append(messages) }}",
    "{{ messages.clear() }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as o %}",
    "{{ raise_exception('no') }}",
    "{{ strftime_now('%Y') }}",
    "{{ namespace }}",
    "{% set ns = namespace(a=messages) %}",
    "{{ 'a' ~ 'b' * 10**9 }}",
    "{{ messages|batch(10**9, 'x')|list }}",
    "{{ 1 / 0 }}",
    "{{ x.y.z }}",
    "{%",
    "{{",
    "{#",
    "{{ [1] * 10**10 }}",
    "{{ (1,2)|slice(10**9)|list }}",
    "{{ '\\x00' }}",
    "{{ messages[10**6] }}",
    "{{ 'a'.rjust(10**10) }}",
    "{{ 'a'.zfill(10**10) }}",
    "{{ 'a'.expandtabs(10**10) }}",
    "{{ '\\t'.expandtabs(10**10) }}",
    "{{ 'ab'.replace('', 'x'*10**6) }}",
    "{{ 'x'.join(['y'] * 10**9) }}",
    "{{ " + "(" * 300 + "1" + ")" * 300 + " }}",
    "{{ " + "-" * 5000 + "1 }}",
    "{{ '{:>1000000000}'.format(1) }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ 'a'.encode('idna') }}",
]

_NAMES = ["../outside", "/tmp/outside", "a/../../outside", "x" * 300, ".", "", "a\x01b", "C:\\x"]
_TYPES = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]


def value(chance: random.Random) -> Any:
    """A value that nobody expects."""
    match chance.randrange(7):
        case 0 | 1 | 2:
            return chance.choice(_TEXTS)
        case 3:
            return chance.choice(_NUMBERS)
        case 4:
            return chance.choice([True, False, [], {}, [[]], [{}], {"kind": "files"}, ["a", 1], [{"role": "user"}]])
        case 5:
            return {chance.choice(_TEXTS) or "k": chance.choice(_NUMBERS) for _ in range(3)}
        case _:
            return [chance.choice(_TEXTS) for _ in range(chance.randrange(1, 300))]


def edit(table: Any, chance: random.Random) -> None:
    """Put an odd value in place of one, take one away, or add a key, somewhere."""
    here = table
    while True:
        keys: list[Any] = list(here) if isinstance(here, dict) else list(range(len(here)))
        if not keys or chance.random() < 0.08:
            here.update({chance.choice(_TEXTS): value(chance)}) if isinstance(here, dict) else here.append(
                value(chance)
            )
            return
        key = chance.choice(keys)
        if isinstance(here[key], dict | list) and here[key] and chance.random() < 0.75:
            here = here[key]
            continue
        if chance.random() < 0.15:
            del here[key]
        else:
            here[key] = value(chance)
        return


def edited_json(data: bytes, chance: random.Random) -> bytes:
    """JSON with some values replaced; sometimes one is nested deeper than any parser likes."""
    table = json.loads(data)
    for _ in range(chance.choice([1, 1, 2, 4])):
        if table:
            edit(table, chance)
    text = json.dumps(table)
    if chance.random() < 0.1:
        opening, closing = chance.choice([("[", "]"), ('{"a":', "}")])
        place, depth = text.find(": ") + 2, chance.choice(DEEP)
        text = text[:place] + opening * depth + "1" + closing * depth + ", " + json.dumps("x") + ": " + text[place:]
    if chance.random() < 0.05:
        text = text.replace("null", "NaN").replace("1", "1e999", 1)
    return text.encode()


def edited_toml(data: bytes, chance: random.Random) -> bytes:
    """TOML with some values replaced, or with a key, an array or a table as deep as there is room."""
    table = tomllib.loads(data.decode())
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        edit(table, chance)
    try:
        text = tomli_w.dumps(table)
    except (TypeError, ValueError, OverflowError):
        return spoilt(data, chance)
    if chance.random() < 0.1:
        depth = chance.choice(DEEP)
        deep: list[Callable[[], str]] = [
            lambda: "deep = " + "[" * depth + "]" * depth,
            lambda: ".".join(["a"] * depth) + " = 1",
            lambda: "deep = " + "{a = " * min(depth, 2000) + "1" + "}" * min(depth, 2000),
            lambda: "[" + ".".join(["b"] * depth) + "]",
        ]
        text = chance.choice(deep)() + "\n" + text if chance.random() < 0.7 else text + "\n" + deep[3]() + "\n"
    return text.encode("utf-8", "surrogatepass")


def edited_template(template: str, chance: random.Random) -> str:
    """A chat template with something in it that asks for too much, or for what is not its own."""
    text = template
    for _ in range(chance.choice([1, 1, 2])):
        places = [at for at in range(len(text)) if text.startswith(("{{", "{%"), at)] + [len(text)]
        at = chance.choice(places)
        text = text[:at] + chance.choice(_SNIPPETS) + text[at:]
    return text


def edited_tar(data: bytes, chance: random.Random) -> bytes:
    """A tar whose members are renamed, exchanged, added, or made what they are not."""
    made = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as old, tarfile.open(fileobj=made, mode="w") as new:
        members = [(member, old.extractfile(member)) for member in old.getmembers()]
        chosen = chance.randrange(len(members))
        for number, (member, held) in enumerate(members):
            content = held.read() if held is not None else b""
            if number == chosen:
                content = _changed(member, content, chance)
                if chance.random() < 0.1:
                    new.addfile(member, io.BytesIO(content))
            new.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return made.getvalue()


def _changed(member: tarfile.TarInfo, content: bytes, chance: random.Random) -> bytes:
    match chance.randrange(6):
        case 0:
            member.name = chance.choice(
                ["../outside", "/tmp/outside", "a/../../outside", "x" * 300, ".", "", "a\x01b", "C:\\x"]
            )
        case 1:
            member.type = chance.choice(
                [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
            )
            member.linkname, member.size, content = chance.choice(["/etc/passwd", "../../..", "."]), 0, b""
        case 2 | 3:
            if member.name.endswith(".json"):
                content = edited_json(content, chance)
            elif member.name.endswith((".toml", ".lock")):
                content = edited_toml(content, chance)
            else:
                content = spoilt(content, chance)
            member.size = len(content)
        case 4:
            member.mode, member.uid, member.mtime = 0o7777, 2**31, 2**33
        case _:
            content = content[: len(content) // 2]
            member.size = len(content)
    return content
