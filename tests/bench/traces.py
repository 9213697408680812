"""`traces`: how fast answers are made durable, and what a long queue of questions takes in memory."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import click

from orca_recipes.catalogue import Catalogue
from orca_recipes.contract.answers import Answer, Collecting
from orca_recipes.contract.hooks import hookimpl
from orca_recipes.contract.kinds import Teacher
from orca_recipes.progress import Progress
from orca_recipes.recipe.load import load_recipe
from orca_recipes.run.build import Asked, bench_of, prepare
from orca_recipes.run.collect import collected
from orca_recipes.run.execute import execute
from orca_recipes.store.store import Store
from orca_recipes.traces.trace_lines import Question, Trace
from orca_recipes.traces.trace_store import DurableAnswers, TraceStore
from tests.bench.corpus import WORK
from tests.bench.machine import load, machine
from tests.bench.table import table

_TEXT = "The answer follows from what was said so far, and nothing else counts. " * 12
_IN_FLIGHT = 128

RECIPE = """\
name = "queue"
[collections.questions]
kind = "files"
path = "questions.jsonl"
columns = {{ question = "q" }}
[datasets.main]
teacher = "instant"
[tokenizer]
kind = "hf"
path = "{tokenizer}"
[template]
kind = "chatml"
"""


@click.command()
@click.option("--answers", default=100_000, show_default=True, help="Answers that are written.")
@click.option("--questions", default=1_000_000, show_default=True, help="Questions that wait; a tenth goes first.")
def traces(answers: int, questions: int) -> None:
    """Measure the trace store and the queue before it."""
    click.echo(machine())
    rows = []
    for in_flight in (64, 512):
        wall, cpu = durable(answers, in_flight)
        rows.append([in_flight, f"{answers:,}", f"{answers / wall:,.0f}", f"{cpu / answers * 1e6:.0f}", load()])
    click.echo(table("durable answers of 1 kB", ("in flight", "answers", "a second", "CPU us each", "load"), rows))
    queues = []
    for number in (questions // 10, questions):
        done = subprocess.run([sys.executable, "-m", "tests.bench.traces", str(number)], capture_output=True, text=True)
        done.check_returncode()
        queues.append(json.loads(done.stdout.splitlines()[-1]))
    heads = ("questions", "asked: CPU s", "collected: CPU s", "a second of CPU", "peak MiB")
    click.echo(table("questions of 1 kB that wait for a teacher that answers at once", heads, queues))


def durable(answers: int, in_flight: int) -> tuple[float, float]:
    """Wall and CPU seconds of keeping so many answers, so many at a time."""
    WORK.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK) as folder, TraceStore(Path(folder)) as store:

        async def work() -> None:
            async def keep(numbers: range) -> None:
                for number in numbers:
                    await kept.keep(Trace(_answer(number.to_bytes(32, "big")), Question((("user", "q"),))))

            kept = DurableAnswers(store)
            await asyncio.gather(*(keep(range(first, answers, in_flight)) for first in range(in_flight)))

        started, used = time.monotonic(), time.process_time()
        asyncio.run(work())
        return time.monotonic() - started, time.process_time() - used


class Instant(Teacher):
    """Answers at once.

    [teachers.instant]
    kind = "instant"
    """

    kind: Literal["instant"] = "instant"
    collects: ClassVar[bool] = True

    def sampling(self) -> Mapping[str, Any]:
        return {"model": "instant"}

    async def collect(self, collecting: Collecting) -> None:
        turn = asyncio.Lock()

        async def work() -> None:
            while True:
                async with turn:
                    request = await anext(collecting.requests, None)
                if request is None:
                    return
                await collecting.keep(_answer(request.key))

        await asyncio.gather(*(work() for _ in range(_IN_FLIGHT)))


class Instantly:
    """The plugin that offers it."""

    @hookimpl
    def orca_teachers(self) -> dict[str, str]:
        return {"instant": f"{__name__}:Instant"}


def queue(questions: int) -> list[str]:
    """One line of the table: a collection of so many questions, in a process of its own, whose whole peak is told."""
    tokenizer = Path("recipes/quickstart/tokenizer.json").resolve().as_posix()
    WORK.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        root = Path(folder)
        with (root / "questions.jsonl").open("w") as file:
            for number in range(questions):
                file.write(json.dumps({"q": f"Question {number}: {_TEXT}"}) + "\n")
        (root / "queue.toml").write_text(RECIPE.format(tokenizer=tokenizer))
        loaded = load_recipe(root / "queue.toml", catalogue=Catalogue([Instantly()]))
        asked = Asked(loaded, Store(root / "store"), root / "out", workers=1, traces=root / "traces")
        bench = bench_of(asked, prepare(asked), Progress())
        execute(bench, ("ask",))
        used = time.process_time()
        (line,) = collected(bench)
        assert f"{questions:,} of them asked now" in line
        seconds = time.process_time() - used
    peak = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]
    figures = (used, seconds, questions / seconds, int(peak) / 1024)
    return [f"{questions:,}", *(f"{figure:,.0f}" for figure in figures)]


def _answer(key: bytes) -> Answer:
    return Answer(key, _TEXT, "stop", None, 200, 0, 200, "instant", "instant", "head", time.time(), None, None)


if __name__ == "__main__":
    print(json.dumps(queue(int(sys.argv[1]))))
