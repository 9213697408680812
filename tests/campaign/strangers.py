"""What strangers hand over, edited by rule: recipes, locks, builds, traces, archives, tokenizers, templates, loaders.

Each input is drawn from the seed and its number, and met by a command as a user runs it. Whatever it does, the command
ends in time with status 0, 1 or 2, says a sentence and no traceback, runs no code of the input, starts no program,
writes nowhere but where it was told, asks no host that was not allowed, and shows no secret. Inputs are not kept: a
failure is named by seed and number.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import click
from click.testing import CliRunner

from orca_recipes import catalogue
from orca_recipes.cli.main import main
from orca_recipes.run.work import limited
from tests.campaign.fuzz import Hang, no_longer_than
from tests.campaign.met import Met, joined, tell
from tests.campaign.mutation import spoilt
from tests.campaign.stranger_loaders import LOADERS, loaded_by_a_stranger
from tests.campaign.stranger_values import edited_json, edited_tar, edited_template, edited_toml
from tests.campaign.trial import HOME
from tests.campaign.watching import Watched, watched

LIMITS = limited.Limits(memory_bytes=1 << 30, seconds=60.0)
SECRET = "planted-7f3a9c51e0b84d26"
PATIENCE_SECONDS = 300
_VARIABLE = "PLANTED_KEY"

RECIPE = """\
name = "sums"
[collections.sums]
kind = "files"
path = "sums.jsonl"
[tokenizer]
kind = "hf"
path = "student"
[template]
kind = "from_tokenizer"
[packing]
row_tokens = 512
[profiles.asked.teachers.t]
kind = "openai"
model = "m"
endpoints = [{ base_url = "https://teacher.invalid/v1", key_env = "PLANTED_KEY" }]
[profiles.asked.datasets.main]
teacher = "t"
"""

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass
class Desk:
    """A sound recipe with its build, archive and traces, and a copy of it to spoil."""

    root: Path
    said: list[str] = field(default_factory=list)

    @property
    def sound(self) -> Path:
        return self.root / "sound"

    @property
    def here(self) -> Path:
        return self.root / "here"

    @property
    def recipe(self) -> Path:
        return self.here / "sums.toml"

    def begin(self) -> None:
        """Have a copy of what is sound: what the last input left is removed, what it changed is copied anew."""
        wanted, there = _files(self.sound), _files(self.here)
        for path in sorted(there.keys() - wanted.keys(), reverse=True):
            place = self.here / path
            shutil.rmtree(place, ignore_errors=True) if there[path] is None else place.unlink(missing_ok=True)
        for path in sorted(wanted):
            if path not in there or there[path] != wanted[path]:
                self._restore(path, is_folder=wanted[path] is None)

    def _restore(self, path: str, *, is_folder: bool) -> None:
        place = self.here / path
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)
        place.mkdir(parents=True) if is_folder else shutil.copy2(self.sound / path, place)

    def written(self) -> list[Path]:
        """The files that are not those of what is sound."""
        wanted, there = _files(self.sound), _files(self.here)
        return [self.here / path for path, known in there.items() if known is not None and wanted.get(path) != known]

    def run(self, *words: object) -> tuple[int, str]:
        """A command, with its status and all that it said. Raises: AssertionError where it is no end for a user."""
        done = CliRunner().invoke(main, [str(word) for word in words])
        text = done.output
        self.said.append(text)
        where = " ".join(str(word).replace(str(self.root), "") for word in words)
        assert done.exception is None or isinstance(done.exception, SystemExit), f"{where}: {done.exception!r}"
        assert done.exit_code in (0, 1, 2), f"{where}: exit status {done.exit_code}"
        assert "orca-recipe failed" not in text, f"{where}: {text[-600:]}"
        assert "Traceback" not in text, f"{where}: {text[-600:]}"
        assert done.exit_code == 0 or text.strip(), f"{where}: no sentence"
        assert max(map(len, text.splitlines()), default=0) < 20_000, (
            f"{where}: a line of {len(text)} characters: {text[:200]}"
        )
        return done.exit_code, text

    def places(self, *, out: str = "out") -> list[object]:
        return ["--store", self.here / "store", "--out", self.here / out]

    def build(self, *more: object) -> int:
        return self.run("build", self.recipe, *self.places(), "--workers", 1, *more)[0]


def _files(folder: Path) -> dict[str, tuple[int, int, int] | None]:
    """What lies in a folder, by its path there: kind, size and time of files; folders are None.

    A copy keeps the time of what it is a copy of, and whoever writes a file sets another.
    """
    found: dict[str, tuple[int, int, int] | None] = {}
    left = [""]
    while left:
        above = left.pop()
        with suppress(FileNotFoundError, PermissionError), os.scandir(folder / above) as entries:
            for entry in entries:
                path = f"{above}/{entry.name}" if above else entry.name
                if entry.is_dir(follow_symlinks=False):
                    found[path] = None
                    left.append(path)
                else:
                    state = entry.stat(follow_symlinks=False)
                    found[path] = state.st_mode, state.st_size, state.st_mtime_ns
    return found


def make(root: Path) -> Desk:
    """Build what the campaign spoils."""
    desk = Desk(root)
    student = desk.sound / "student"
    student.mkdir(parents=True)
    rows = [{"question": f"{n} + {n}?", "answer": str(2 * n)} for n in range(12)]
    (desk.sound / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shutil.copyfile(HOME / "recipes" / "quickstart" / "tokenizer.json", student / "tokenizer.json")
    (student / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", "chat_template": TEMPLATE}))
    (desk.sound / "sums.toml").write_text(RECIPE)
    desk.begin()
    assert desk.build() == 0, desk.said
    archive = ["archive", desk.recipe, "--store", desk.here / "store", "-o", desk.here / "sums.tar"]
    assert desk.run(*archive)[0] == 0, desk.said
    shutil.rmtree(desk.sound)
    shutil.copytree(desk.here, desk.sound)
    return desk


# --- each makes one input, and meets it with commands; returns the status that says whether it was refused ------------


def recipe(desk: Desk, chance: random.Random) -> int:
    text = desk.recipe.read_bytes()
    desk.recipe.write_bytes(edited_toml(text, chance) if chance.random() < 0.7 else spoilt(text, chance))
    profile = ["--profile", "asked"] if chance.random() < 0.2 else []
    desk.run("check", desk.recipe, *profile)
    desk.run("plan", desk.recipe, *desk.places(), "--declared", *profile)
    if profile:
        traces = ["--traces", desk.here / "traces"]
        return desk.run("collect", desk.recipe, *desk.places(), *traces, "--workers", 1, *profile)[0]
    return desk.build()


def lock(desk: Desk, chance: random.Random) -> int:
    path = desk.recipe.with_suffix(".lock")
    text = path.read_bytes()
    path.write_bytes(edited_toml(text, chance) if chance.random() < 0.7 else spoilt(text, chance))
    desk.run("lock", desk.recipe, "--store", desk.here / "store", "--explain")
    desk.run("verify", desk.here / "out", "--lock", path)
    return desk.build("--locked")


def build(desk: Desk, chance: random.Random) -> int:
    files = sorted(path for path in (desk.here / "out").rglob("*") if path.is_file())
    path = desk.here / "out" / "manifest.json" if chance.random() < 0.5 else chance.choice(files)
    data = path.read_bytes()
    is_json = path.suffix == ".json" and chance.random() < 0.7
    path.write_bytes(edited_json(data, chance) if is_json else spoilt(data, chance))
    status, _ = desk.run("verify", desk.here / "out")
    desk.run("show", desk.here / "out", "--json")
    desk.run("diff", desk.sound / "out", desk.here / "out")
    desk.run("export", desk.here / "out", "--to", "hf", "--out", desk.here / "exported")
    return status


def traces(desk: Desk, chance: random.Random) -> int:
    question = {"messages": [["user", "2 + 2?"]], "sampling": {"model": "m"}, "sample": 0}
    line = {"key": "0" * 64, "text": "4", "finish_reason": "stop", "model_asked": "m", "endpoint": "e", "time": 1.7e9}
    data = (json.dumps({**line, "question": question}) + "\n").encode() * chance.randrange(1, 4)
    data = edited_json(data.splitlines()[0], chance) + b"\n" if chance.random() < 0.6 else spoilt(data, chance)
    path = desk.here / chance.choice(["t.jsonl", "t.jsonl", "t.parquet"])
    path.write_bytes(data)
    status, _ = desk.run("traces", "import", path, "--traces", desk.here / "traces")
    held = desk.here / "traces" / "segments" / "x.answers"
    held.parent.mkdir(parents=True, exist_ok=True)
    held.write_bytes(data)
    left = desk.here / "traces" / "sent" / "x.sent"
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(edited_json(b'{"key": "00", "tries": 1, "endpoint": "e", "token": "t"}', chance) + b"\n")
    desk.run("traces", "stats", "--traces", desk.here / "traces")
    plan = ["plan", desk.recipe, *desk.places(), "--profile", "asked", "--traces", desk.here / "traces"]
    desk.run(*plan)
    return status


def archive(desk: Desk, chance: random.Random) -> int:
    path = desk.here / "sums.tar"
    data = path.read_bytes()
    path.write_bytes(edited_tar(data, chance) if chance.random() < 0.8 else spoilt(data, chance))
    status, _ = desk.run("rebuild", path, "--out", desk.here / "rebuilt", "--workers", 1)
    return status


def tokenizer(desk: Desk, chance: random.Random) -> int:
    path = desk.here / "student" / chance.choice(["tokenizer.json", "tokenizer_config.json"])
    data = path.read_bytes()
    path.write_bytes(edited_json(data, chance) if chance.random() < 0.8 else spoilt(data, chance))
    return desk.build()


def template(desk: Desk, chance: random.Random) -> int:
    path = desk.here / "student" / "tokenizer_config.json"
    table = json.loads(path.read_bytes())
    path.write_text(json.dumps({**table, "chat_template": edited_template(TEMPLATE, chance)}))
    return desk.build()


def data(desk: Desk, chance: random.Random) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [json.loads(line) for line in (desk.here / "sums.jsonl").read_bytes().splitlines()]
    name = chance.choice(["rows.jsonl", "rows.json", "rows.parquet", "rows.arrow", "rows.csv"])
    path = desk.here / name
    if name == "rows.parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name == "rows.arrow":
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, pa.Table.from_pylist(rows).schema) as writer:
            writer.write_table(pa.Table.from_pylist(rows))
    elif name == "rows.csv":
        path.write_text("question,answer\n" + "".join(f"{row['question']},{row['answer']}\n" for row in rows))
    else:
        path.write_text(json.dumps(rows) if name == "rows.json" else "\n".join(map(json.dumps, rows)))
    whole = path.read_bytes()
    is_json = name.startswith("rows.json") and chance.random() < 0.6
    path.write_bytes(edited_json(whole.splitlines()[0], chance) if is_json else spoilt(whole, chance))
    shape = 'path = "sums.jsonl"', f'path = "{name}"\nshape = "auto"' if chance.random() < 0.5 else f'path = "{name}"'
    desk.recipe.write_text(desk.recipe.read_text().replace(*shape))
    desk.run("check", desk.recipe)
    desk.run("init", path, "-o", desk.here / "new.toml")
    return desk.build()


def loader(desk: Desk, chance: random.Random) -> int:
    """A plugin's kind that misbehaves on purpose, behind limits that are small."""
    return loaded_by_a_stranger(desk.recipe, desk.here, chance.choice(sorted(LOADERS)))


KINDS: dict[str, tuple[Callable[[Desk, random.Random], int], int]] = {
    "recipe": (recipe, 28),
    "lock": (lock, 12),
    "build": (build, 12),
    "traces": (traces, 10),
    "archive": (archive, 10),
    "tokenizer": (tokenizer, 10),
    "template": (template, 8),
    "data": (data, 8),
    "loader": (loader, 2),
}
"""By name, with how often each is drawn."""


@click.command()
@click.option("--count", default=1000, show_default=True, help="How many inputs.")
@click.option("--seed", default=1, show_default=True, help="Decides every input.")
@click.option("--seconds", type=float, help="Stop after so many seconds.")
@click.option("--processes", default=1, show_default=True, help="How many try inputs, each a share of the numbers.")
@click.option("--only", type=click.Choice(sorted(KINDS)), help="Inputs of this kind alone.")
@click.option("--at", type=int, help="This one input.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write what was tried into this file.")
def strangers(
    count: int,
    seed: int,
    seconds: float | None,
    processes: int,
    only: str | None,
    at: int | None,
    json_file: Path | None,
) -> None:
    """Meet what strangers hand over, edited by rule: no code, no secret, no limit passed, always a sentence."""
    # Where there is one, a disk of memory: what a try costs is mostly files that are made, flushed and removed.
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    shares = [range(count)[first::processes] for first in range(processes)] if at is None else [range(at, at + 1)]
    with tempfile.TemporaryDirectory(prefix="strangers-", dir=place) as folder:
        meet = partial(met, seed=seed, only=only, seconds=seconds)
        folders = [Path(folder) / str(number) for number in range(len(shares))]
        began = time.monotonic()
        if len(shares) == 1:
            found = [meet(folders[0], shares[0])]
        else:
            with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
                found = list(pool.map(meet, folders, shares))
        took = time.monotonic() - began
    by_kind = {name: joined([one[name] for one in found]) for name in KINDS}
    tried = sum(one.tried for one in by_kind.values())
    click.echo(f"{tried:,} inputs, {tried / took:.1f} a second with what they are made of, seed {seed}")
    tell(by_kind, ("what strangers hand over", "kind", "refused"), json_file)


def met(
    root: Path, numbers: range, seed: int, *, only: str | None = None, seconds: float | None = None
) -> dict[str, Met]:
    """Meet inputs by their numbers, until the time is up."""
    names, shares = list(KINDS), [share for _, share in KINDS.values()]
    by_kind = {name: Met() for name in KINDS}
    ends = None if seconds is None else time.monotonic() + seconds
    root.mkdir(parents=True, exist_ok=True)
    with _planted(root), _one_catalogue(), watched(root) as seen:
        desk = make(root)
        limited.LIMITED = limited.Limited(LIMITS)  # the machine has other work
        for number in numbers:
            if ends is not None and time.monotonic() > ends:
                break
            chance = random.Random(f"{seed}/{number}")
            name = chance.choices(names, shares)[0]
            if only is None or name == only:
                _meet(desk, name, chance, seen, by_kind[name], f"{name} (--at {number} --seed {seed})")
    return by_kind


def _meet(desk: Desk, name: str, chance: random.Random, seen: Watched, told: Met, where: str) -> None:
    told.tried += 1
    desk.begin()
    desk.said.clear()
    seen.forget()
    try:
        with no_longer_than(PATIENCE_SECONDS):
            told.found += KINDS[name][0](desk, chance) != 0
    except KeyboardInterrupt:
        raise
    except (AssertionError, Hang) as fault:
        told.failed.append(f"{where}: {fault}")
    except BaseException as fault:  # panics of Rust are no Exception
        told.failed.append(f"{where}: {type(fault).__name__}: {fault}")
    told.failed += [f"{where}: {sentence}" for sentence in seen.told()]
    if any(SECRET in text for text in desk.said) or _hold_secret(desk.written()):
        told.failed.append(f"{where}: the secret is shown or written")


def _hold_secret(written: Sequence[Path]) -> bool:
    files = (path for path in written if path.is_file() and not path.is_symlink() and path.suffix != ".sqlite")
    return any(SECRET.encode() in path.read_bytes() for path in files)


@contextmanager
def _one_catalogue() -> Iterator[None]:
    """What is installed is looked for once, not by each command."""
    known, before = catalogue.Catalogue(), catalogue.Catalogue
    catalogue.Catalogue = lambda: known  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        catalogue.Catalogue = before  # type: ignore[misc]


@contextmanager
def _planted(root: Path) -> Iterator[None]:
    """A user's home with a secret in the environment and no host allowed."""
    places = {name: str(root / "user") for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "ORCA_CONFIG")}
    (root / "user").mkdir(parents=True)
    before = {name: os.environ.get(name) for name in (*places, _VARIABLE)}
    os.environ.update({**places, _VARIABLE: SECRET})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
