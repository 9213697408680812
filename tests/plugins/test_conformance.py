"""Every built-in kind passes the checks that the contract offers to plugin authors."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from orca_plugins.exporters.axolotl import Axolotl
from orca_plugins.exporters.bridge import Bridge
from orca_plugins.exporters.hf import HF
from orca_plugins.exporters.llamafactory import LlamaFactory
from orca_plugins.exporters.megatron_documents import MegatronDocuments
from orca_plugins.exporters.messages_lines import Messages
from orca_plugins.exporters.olmo import Olmo
from orca_plugins.exporters.rl import RL
from orca_plugins.exporters.skyrl import SkyRL
from orca_plugins.filters.answer_matches import AnswerMatches
from orca_plugins.filters.contains_prompt import ContainsPrompt
from orca_plugins.filters.decontaminate import Decontaminate
from orca_plugins.filters.echo import Echo
from orca_plugins.filters.finish import Finish
from orca_plugins.filters.length import Length
from orca_plugins.filters.near_duplicates import NearDuplicates
from orca_plugins.filters.refusal import Refusal
from orca_plugins.filters.repetition import Repetition
from orca_plugins.filters.where import Where
from orca_plugins.packers.best_fit import BestFit
from orca_plugins.packers.one_per_row import OnePerRow
from orca_plugins.sources.files.kind import Files
from orca_plugins.sources.flan.kind import Flan
from orca_plugins.sources.hub.kind import Hub
from orca_plugins.sources.niv2.kind import Niv2
from orca_plugins.sources.reasoning_gym import ReasoningGym
from orca_plugins.strategies.direct import Direct
from orca_plugins.strategies.explain_then_answer import ExplainThenAnswer
from orca_plugins.strategies.extract_generate import ExtractGenerate
from orca_plugins.strategies.few_shot import FewShot
from orca_plugins.strategies.instruct import Instruct
from orca_plugins.strategies.recall_reason_generate import RecallReasonGenerate
from orca_plugins.strategies.recall_then_generate import RecallThenGenerate
from orca_plugins.strategies.step_by_step import StepByStep
from orca_recipes.contract.checks.promises import example_kinds
from orca_recipes.contract.exporter import Exporter
from orca_recipes.contract.kinds import Filter, Kind, Packer, Source, Strategy
from orca_recipes.contract.pieces import PIECES
from orca_recipes.contract.testing import (
    check_exporter,
    check_filter,
    check_kind,
    check_packer,
    check_source,
    check_strategy,
)


def built_in() -> list[tuple[str, str]]:
    """(hook, "module:Class") of every kind that the built-in plugins offer."""
    found = []
    for piece in PIECES:
        plugin = importlib.import_module(f"orca_plugins.{piece.hook.removeprefix('orca_')}")
        found += [(piece.hook, target) for target in getattr(plugin, piece.hook)().values()]
    return found


def kind_class(target: str) -> type[Kind]:
    module, _, name = target.partition(":")
    found: type[Kind] = getattr(importlib.import_module(module), name)
    return found


@pytest.mark.parametrize("target", [target for _, target in built_in()])
def test_every_built_in_kind_keeps_the_promises_of_a_kind(target: str) -> None:
    examples = example_kinds(kind_class(target))
    assert examples, "no TOML example in the docstring"
    for kind in examples:
        check_kind(kind)


def files(folder: Path) -> Source:
    rows = [{"q": f"question {n}", "a": str(n), "id": f"row-{n}", "task": f"t{n % 3}"} for n in range(300)]
    lines = [json.dumps(row) for row in rows]
    lines[7] = "not JSON"
    (folder / "a.jsonl").write_text("\n\n".join(lines))
    (folder / "b.csv").write_text("q,a\n" + "".join(f'"two\nlines {n}",{n}\n' for n in range(300)))
    columns = {"question": "q", "reference": "a"}
    return Files.model_validate_json(json.dumps({"kind": "files", "path": str(folder), "columns": columns}))


def flan(folder: Path) -> Source:
    rows = [
        {"inputs": f"q{n}", "targets": "a", "task_name": f"t{n % 3}", "template_type": ("zs_opt", "fs_opt")[n % 2]}
        for n in range(300)
    ]
    (folder / "deep").mkdir()
    for name in ("a.jsonl", "deep/b.jsonl"):
        (folder / name).write_text("\n".join(map(json.dumps, rows)))
    return Flan(submix="t0", path=folder, templates=("zs",), whole=False)


def niv2(folder: Path) -> Source:
    for task in ("task2_b", "task10_a"):
        instances = [{"id": f"{task}-{n}", "input": f"input {n}", "output": ["x", "y"][: n % 3]} for n in range(60)]
        (folder / f"{task}.json").write_text(json.dumps({"Definition": ["Do."], "Instances": instances}))
    return Niv2(path=folder, max_instances=50)


def reasoning_gym(_: Path) -> Source:
    pytest.importorskip("reasoning_gym", reason="needs orca-recipes[reasoning-gym]")
    return ReasoningGym(tasks=("gcd", "ab", "word_sorting"), rows_per_task=40)


SOURCES: dict[type[Kind], Callable[[Path], Source]] = {
    Files: files,
    Flan: flan,
    Niv2: niv2,
    ReasoningGym: reasoning_gym,
}
FILTERS = (
    AnswerMatches(),
    ContainsPrompt(),
    Decontaminate(against=("exam",)),
    Echo(),
    Finish(),
    Length(),
    Length(min_chars=3, max_chars=40, min_answer_chars=1, max_answer_chars=30),
    NearDuplicates(),
    Refusal(),
    Repetition(),
    Where(where={"messages": {"turns": {"ge": 2}}, "not": {"language": "de"}}),
)
STRATEGIES = (
    Direct(),
    ExplainThenAnswer(),
    ExtractGenerate(),
    FewShot(),
    FewShot(fewest=1, most=2),
    Instruct(system="Be {{brief}}.", prompt="Read this: {question}\nNow answer."),
    RecallReasonGenerate(),
    RecallThenGenerate(),
    StepByStep(),
)
PACKERS = (BestFit(), BestFit(row_tokens=96, align=8), OnePerRow(), OnePerRow(row_tokens=10))
EXPORTERS = (
    Axolotl(),
    Bridge(),
    Bridge(row_group_rows=2),
    HF(),
    HF(packed=True),
    LlamaFactory(),
    MegatronDocuments(),
    Messages(),
    Messages(marks=True),
    Olmo(),
    RL(),
    SkyRL(),
)
KINDS: tuple[Kind, ...] = (*FILTERS, *STRATEGIES, *PACKERS, *EXPORTERS)


@pytest.mark.parametrize("make", SOURCES.values(), ids=[kind.__name__ for kind in SOURCES])
def test_every_built_in_source_keeps_its_promises(make: Callable[[Path], Source], tmp_path: Path) -> None:
    for name in ("data", "apart"):
        (tmp_path / name).mkdir()
    check_source(make(tmp_path / "data"), tmp_path / "apart")


@pytest.mark.parametrize("filter", FILTERS, ids=repr)
def test_every_built_in_filter_keeps_its_promises(filter: Filter) -> None:
    if isinstance(filter, NearDuplicates):
        pytest.importorskip("rensa", reason="needs orca-recipes[near]")
    check_filter(filter)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_every_built_in_strategy_keeps_its_promises(strategy: Strategy) -> None:
    check_strategy(strategy)


@pytest.mark.parametrize("packer", PACKERS, ids=repr)
def test_every_built_in_packer_keeps_its_promises(packer: Packer) -> None:
    check_packer(packer)


@pytest.mark.parametrize("exporter", EXPORTERS, ids=repr)
def test_every_built_in_exporter_keeps_its_promises(exporter: Exporter, tmp_path: Path) -> None:
    check_exporter(exporter, tmp_path)


def test_no_built_in_source_filter_strategy_packer_or_exporter_is_left_out() -> None:
    hooks = {"orca_sources", "orca_filters", "orca_strategies", "orca_packers", "orca_exporters"}
    offered = {kind_class(target) for hook, target in built_in() if hook in hooks}
    needs_a_hub = {Hub}  # test_hub_source.py has one
    assert offered == {*SOURCES, *needs_a_hub, *(type(kind) for kind in KINDS)}
