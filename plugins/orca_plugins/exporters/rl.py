"""Questions with their reference answers, for trainers that let the model answer and reward it.

A build keeps the answers that it trains. Those that the sources brought are the references; where a teacher answered,
the reference is not in the build, and the example is left out under that reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any, ClassVar, Literal

from orca_plugins.exporters.token_columns import configs_of, file_of, others, said_lines, sizes_category
from orca_recipes.contract.exporter import BuildToExport, Exporter, Said, Shards, ShardToExport, Written

NO_LABELS = "RL trains on answers of the model's own, so no token of the build is a label"
OF_A_TEACHER = "their answer is a teacher's, and a build does not hold the reference"

_SETTINGS = """\
## RL trainers

One line is one question{others}: `prompt` (messages), `reference`, `task`, `collection`, `id`, and `tools` where it has
any; `data_source` and `reward_model` say task and reference once more, as verl reads them. The prompt is what the
student of the build sees, system message and earlier turns included. {left_out}

- TRL: `GRPOTrainer(reward_funcs=f)`, where `f(completions, reference, task, **rest)` is given the columns by name;
- verl: `data.train_files=[$(echo {dataset}/*.jsonl | tr ' ' ,)]`, the files as they are; by default it drops prompts of
  more than 1,024 tokens (`data.max_prompt_length`), and it reads tools from its own `tool_config_path` alone;
- SkyRL: `data.train_data` likewise; its environments read `env_class` and
  `reward_spec` = {{"method": "rule", "ground_truth": reference}}, which one `map` adds.

A repeated question of a mixture stands here as often as it was drawn.
"""


class RL(Exporter):
    """Write JSON lines of `prompt`, `reference`, `task` and `tools`, for TRL's GRPO, verl and SkyRL.

    kind = "rl"
    """

    revision: ClassVar[int] = 2
    title: ClassVar[str] = "RL trainers"
    kind: Literal["rl"] = "rl"

    def write(self, *, build: BuildToExport, shard: ShardToExport, folder: Path) -> Written:
        written = Written(notes={"left out": 0})
        path = folder / shard.dataset.name / file_of(shard, ".jsonl")
        path.parent.mkdir(exist_ok=True)
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(
                json.dumps(line, ensure_ascii=False) + "\n" for line in _lines(shard, written, build.own_words)
            )
        return written

    def settings(self, *, build: BuildToExport, shards: Shards) -> str:
        left_out = sum(written.notes["left out"] for of_dataset in shards.values() for written in of_dataset)
        return _SETTINGS.format(
            others=others(build),
            dataset=build.datasets[0].name,
            left_out=f"{left_out:,} examples of the build are left out." if left_out else "None is left out.",
        )

    def card(self, *, build: BuildToExport) -> Mapping[str, Any]:
        return {"configs": configs_of(build, "train-*.jsonl"), "size_categories": [sizes_category(build)]}


def _lines(shard: ShardToExport, written: Written, own_words: Set[str]) -> Iterator[dict[str, Any]]:
    own = {"", *own_words}
    for block in shard.blocks:
        records = block.records().select(["id", "collection", "task", "teacher"]).to_pylist()
        tokens, trained = block.segments.example_tokens.tolist(), block.segments.example_trained_tokens.tolist()
        for said, record, count, labels in zip(block.said(), records, tokens, trained, strict=True):
            why = said.why if record["teacher"] in own else OF_A_TEACHER
            written.lose(why or NO_LABELS, labels)
            if why is not None:
                written.notes["left out"] += 1
                continue
            written.examples += 1
            written.tokens += count
            yield _line(said, record)


def _line(said: Said, record: Mapping[str, Any]) -> dict[str, Any]:
    *prompt, answer = said_lines(said)
    reference, task = answer["content"], record["task"]
    line = {"prompt": prompt, "reference": reference, "task": task}
    if calls := answer.get("tool_calls"):
        line["reference_calls"] = calls
    line |= {"collection": record["collection"], "id": record["id"]}
    line |= {"data_source": task, "reward_model": {"style": "rule", "ground_truth": reference}}
    return line | ({"tools": list(said.tools)} if said.tools else {})
