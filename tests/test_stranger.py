"""A stranger's plugin package, outside the house: installed beside ours, found by its entry point, used by a recipe."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1]
PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "counting-kinds"
version = "1.2.3"
dependencies = ["orca-recipes"]

[project.entry-points.orca_recipes]
counting = "counting_kinds"

[tool.hatch.build.targets.wheel]
packages = ["counting_kinds"]
"""
HOOKS = """\
from orca_recipes.contract.hooks import hookimpl


@hookimpl
def orca_sources():
    return {"counting": "counting_kinds.counting:Counting"}


@hookimpl
def orca_strategies():
    return {"aloud": "counting_kinds.aloud:Aloud"}


@hookimpl
def orca_filters():
    return {"even_only": "counting_kinds.even_only:EvenOnly"}


@hookimpl
def orca_exporters():
    return {"places": "counting_kinds.places:Places"}
"""
SOURCE = '''\
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import polars as pl
from pydantic import Field

from orca_recipes.contract.kinds import Reading, Slice, Source, SourceFile


class Counting(Source):
    """Count upwards.

        [collections.numbers]
        kind = "counting"
        up_to = 10
    """

    kind: Literal["counting"] = "counting"
    up_to: Annotated[int, Field(gt=0, description="the last number")] = 10

    def files(self) -> Sequence[SourceFile]:
        return ()

    def pins(self) -> dict[str, str]:
        return {"counting-kinds": "1.2.3"}

    def slices(self, *, slice_bytes: int) -> Sequence[Slice]:
        span = max(1, slice_bytes // 64)
        return [Slice(None, n, min(n + span, self.up_to), n + 1) for n in range(0, self.up_to, span)]

    def read(self, *, slice: Slice) -> Iterator[Reading]:
        numbers = list(range(slice.start + 1, slice.stop + 1))
        rows = pl.DataFrame(
            {
                "place": numbers,
                "id": [str(n) for n in numbers],
                "question": [f"What comes after {n}?" for n in numbers],
                "references": [[str(n + 1)] for n in numbers],
            }
        )
        yield Reading(rows, pl.DataFrame(schema={"place": pl.Int64, "reason": pl.String}))
'''
FILTER = '''\
from typing import Literal

import polars as pl

from orca_recipes.contract.kinds import Filter


class EvenOnly(Filter):
    """Keep conversations whose answer is an even number.

        [[datasets.main.filters]]
        kind = "even_only"
    """

    kind: Literal["even_only"] = "even_only"

    def reasons(self, *, conversations: pl.DataFrame) -> pl.Series:
        answer = pl.col("messages").list.last().struct.field("content")
        odd = answer.str.contains("[13579]$")
        return conversations.select(pl.when(odd).then(pl.lit("odd answer")).alias("reason")).to_series()
'''
STRATEGY = '''\
from typing import Annotated, Literal

import polars as pl
from pydantic import Field

from orca_recipes.contract.kinds import Strategy
from orca_recipes.contract.messages import Turn, conversations_of, heading


class Aloud(Strategy):
    """Ask the teacher to count aloud.

        [strategies.loudly]
        kind = "aloud"
        times = 2
    """

    kind: Literal["aloud"] = "aloud"
    times: Annotated[int, Field(gt=0, description="how often it is said")] = 1

    def ask(self, *, examples: pl.DataFrame) -> pl.Series:
        words = pl.lit(" ".join(["Count every single number aloud before you answer."] * self.times))
        system = examples.select(system=pl.concat_str(words, "system", separator=" ", ignore_nulls=True))["system"]
        return conversations_of([Turn("system", system), Turn("user", examples["question"])])

    def teach(self, *, examples: pl.DataFrame, answers: pl.Series) -> pl.Series:
        asked = [Turn("system", heading(examples["system"])), Turn("user", examples["question"])]
        return conversations_of([*asked, Turn("assistant", answers, trained=True)])
'''
EXPORTER = '''\
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from orca_recipes.contract.exporter import BuildToExport, Exporter, Shards, ShardToExport, Written
from orca_recipes.errors import ExportError


class Places(Exporter):
    """Write the ids of labels, a line an example, and no others.

        kind = "places"
        most = 3
    """

    title: ClassVar[str] = "counting"
    kind: Literal["places"] = "places"
    most: Annotated[int, Field(gt=0, description="labels of an example; more are lost")] = 1000

    def refuse(self, *, build: BuildToExport) -> None:
        if build.row_tokens > 4096:
            raise ExportError(f"counting holds rows of 4,096 tokens, and this build has {build.row_tokens}")

    def write(self, *, build: BuildToExport, shard: ShardToExport, folder: Path) -> Written:
        written = Written(examples=shard.examples, tokens=shard.tokens)
        with (folder / f"{shard.dataset.name}-{shard.number}.txt").open("w") as file:
            for block in shard.blocks:
                for start, stop in zip(block.example_bounds[:-1], block.example_bounds[1:]):
                    labels = block.tokens[start:stop][block.labelled[start:stop]].tolist()
                    file.write(" ".join(map(str, labels[: self.most])) + "\\n")
                    written.trained_labels += len(labels[: self.most])
                    written.lose("more than the most", len(labels[self.most :]))
        return written

    def settings(self, *, build: BuildToExport, shards: Shards) -> str:
        return "Count them."
'''
CONFORMANCE = """\
from counting_kinds.aloud import Aloud
from counting_kinds.counting import Counting
from counting_kinds.even_only import EvenOnly
from counting_kinds.places import Places
from orca_recipes.contract.testing import check_exporter, check_filter, check_source, check_strategy
import pathlib, sys

check_source(Counting(up_to=30), pathlib.Path(sys.argv[1]))
check_filter(EvenOnly())
check_strategy(Aloud(times=2))
(pathlib.Path(sys.argv[1]) / "exports").mkdir()
check_exporter(Places(most=1), pathlib.Path(sys.argv[1]) / "exports")
print("conforms")
"""
RECIPE = """\
name = "numbers"

[collections.numbers]
kind = "counting"
up_to = 100

[datasets.main]
filters = ["even_only"]

[tokenizer]
kind = "hf"
path = "{tokenizer}"

[template]
kind = "chatml"
"""


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fresh virtual environment that holds the stranger's package, with ours beside it."""
    folder = tmp_path_factory.mktemp("stranger")
    package = folder / "package" / "counting_kinds"
    package.mkdir(parents=True)
    (package.parent / "pyproject.toml").write_text(PYPROJECT)
    modules = {"__init__": HOOKS, "counting": SOURCE, "even_only": FILTER, "aloud": STRATEGY, "places": EXPORTER}
    for name, text in modules.items():
        (package / f"{name}.py").write_text(text)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    theirs = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    ours = sysconfig.get_path("purelib")
    (Path(theirs) / "beside.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    install(folder)
    return folder


def install(stranger: Path) -> None:
    """Install the package as it lies there now."""
    python = stranger / "venv" / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", stranger / "package"],
        check=True,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )


def orca(stranger: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    python = stranger / "venv" / "bin" / "python"
    return subprocess.run(
        [python, "-m", "orca_recipes.cli", *map(str, words)], capture_output=True, text=True, cwd=stranger
    )


def test_kinds_name_the_package_that_offers_them(stranger: Path):
    listed = orca(stranger, "kinds").stdout
    line = next(line for line in listed.splitlines() if "even_only" in line)
    assert "counting-kinds 1.2.3" in line


def test_a_recipe_uses_a_strangers_source_and_filter_and_a_build_goes_out_by_its_exporter(stranger: Path):
    recipe = stranger / "numbers.toml"
    recipe.write_text(RECIPE.format(tokenizer=(HOME / "recipes/quickstart/tokenizer.json").as_posix()))
    done = orca(stranger, "build", recipe)
    assert done.returncode == 0, done.stderr
    assert orca(stranger, "verify", "build/numbers").returncode == 0
    main = json.loads((stranger / "build/numbers/manifest.json").read_text())["datasets"]["main"]
    assert main["examples"] == 50
    converse = next(stage for stage in main["stages"] if stage["name"] == "converse main/numbers")
    assert converse["rejected"] == {"odd answer": 50}
    export = ["export", "build/numbers", "--to", "places", "--set", "most=1", "--json"]
    told = json.loads(orca(stranger, *export).stdout)
    assert told["trained_labels"] + told["lost_labels"]["more than the most"] == main["trained_tokens"]
    assert len((stranger / "export/numbers.places/main-0.txt").read_text().splitlines()) == 50


def test_a_recipe_uses_a_strangers_strategy_and_erases_its_words(stranger: Path):
    recipe = stranger / "aloud.toml"
    text = RECIPE.format(tokenizer=(HOME / "recipes/quickstart/tokenizer.json").as_posix())
    text = text.replace("[datasets.main]", "[datasets.main]\nstudent = { erase = true }")
    recipe.write_text(text.replace("numbers", "aloud", 1) + '\n[[rules]]\nstrategy = "aloud"\n')
    done = orca(stranger, "build", recipe)
    assert done.returncode == 0, done.stderr
    proof = orca(stranger, "verify", "build/aloud")
    assert proof.returncode == 0
    assert "50 erased prompts" in proof.stdout
    shown = orca(stranger, "show", "build/aloud", "--views").stdout
    teacher, student = shown.index("the teacher was asked"), shown.index("the student sees")
    assert "Count every single number aloud" in shown[teacher:student]
    assert "Count every single number aloud" not in shown[student : shown.index("example", student)]


def test_a_strangers_kinds_can_be_held_to_the_contract(stranger: Path, tmp_path: Path):
    script = stranger / "conformance.py"
    script.write_text(CONFORMANCE)
    done = subprocess.run(
        [stranger / "venv" / "bin" / "python", script, tmp_path], capture_output=True, text=True, cwd=stranger
    )
    assert done.stdout == "conforms\n", done.stderr


@pytest.mark.slow
def test_an_upgrade_of_a_package_is_planned_and_locked_names_it(stranger: Path):
    """The revision of its kind was not raised: only its version and its files say that it drops other rows."""
    recipe = stranger / "upgraded.toml"
    text = RECIPE.format(tokenizer=(HOME / "recipes/quickstart/tokenizer.json").as_posix())
    recipe.write_text(text.replace("numbers", "upgraded", 1))
    assert orca(stranger, "build", recipe).returncode == 0
    lock = (stranger / "upgraded.lock").read_text()
    assert '[pins.plugins.counting-kinds]\nversion = "1.2.3"' in lock
    assert orca(stranger, "build", recipe, "--locked").returncode == 0
    project, module = stranger / "package" / "pyproject.toml", stranger / "package" / "counting_kinds" / "even_only.py"
    try:
        project.write_text(PYPROJECT.replace("1.2.3", "2.0"))
        module.write_text(FILTER.replace("[13579]$", "[02468]$"))
        install(stranger)
        plan = json.loads(orca(stranger, "plan", recipe, "--json").stdout)
        converse = next(stage for stage in plan["stages"] if stage["name"].startswith("converse"))
        assert converse["state"] == "will run"
        assert "counting-kinds 1.2.3 -> 2.0" in converse["why"]
        refused = orca(stranger, "build", recipe, "--locked")
        assert refused.returncode == 2
        assert "plugins.counting-kinds: version 1.2.3 is locked, 2.0 is installed" in refused.stderr
        assert "Traceback" not in refused.stderr
        assert orca(stranger, "build", recipe, "--workers", "2").returncode == 0
        assert orca(stranger, "verify", "build/upgraded").returncode == 0
    finally:
        project.write_text(PYPROJECT)
        module.write_text(FILTER)
        install(stranger)
