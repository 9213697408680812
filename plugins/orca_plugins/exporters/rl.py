"""Questions with their reference answers, for trainers that let the model answer and reward it.

A build keeps the answers that it trains. Those that the sources brought are the references; where a teacher answered,
the reference is not in the build, and the example is left out under that reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from orca_plugins.exporters.token_columns import configs_of, file_of, others, said_lines, sizes_category
from orca_recipes.contract.exporter import BuildToExport, Exporter, RowBlock, Said, Shards, ShardToExport, Written
from orca_recipes.shards.layout import is_trained

NO_LABELS = "RL trains on answers of the model's own, so no token of the build is a label"
OF_A_TEACHER = "their answer is a teacher's, and a build does not hold the reference"

_SETTINGS = """\
## RL trainers

One line is one question{others}: `prompt` (messages), `reference`, `task`, `collection`, `id`, and `tools` where it has
any; `data_source` and `reward_model` say task and reference once more, as verl reads them. The prompt is what the
student of the build sees, system message and earlier turns included. {left_out}

- TRL: `GRPOTrainer(reward_funcs=f)`, where `f(completions, reference, task, **rest)` is given the columns by name;
- verl: `data.train_files=[$(echo {dataset}/*.jsonl | tr ' ' ,)]`, the files as they are; of prompts that are
  longer than `data.max_prompt_length` it keeps the end alone, unless `data.filter_overlong_prompts=True` drops them,
  and it reads tools from its own `tool_config_path` alone;
- SkyRL: `data.train_data` likewise; prompts that are longer than `trainer.max_prompt_length` are dropped, and its
  environments read `env_class` and
  `reward_spec` = {{"method": "rule", "ground_truth": reference}}, which one `map` adds.

The longest example has {longest} tokens, question and answer together. TRL and SkyRL show the model the tools that they
are given themselves, never those of a line.

A repeated question of a mixture stands here as often as it was drawn.
"""


_DEFAULT_TOKENS = 512
"""What verl (0.9.1), SkyRL (0.4.0) and TRL (1.16.0) allow where nobody sets it, of a prompt and of an answer."""
_CUTS = f"`data.max_prompt_length` left at verl's {_DEFAULT_TOKENS}"
_DROPS = f"`trainer.max_prompt_length` left at SkyRL's {_DEFAULT_TOKENS}"
_ENDS = f"`max_completion_length` left at TRL's {_DEFAULT_TOKENS}, or verl's `data.max_response_length`"
_SHOWS_NONE = "the trainer given no tools of its own"


class RL(Exporter):
    """Write JSON lines of `prompt`, `reference`, `task` and `tools`, for TRL's GRPO, verl and SkyRL.

    kind = "rl"
    """

    revision: ClassVar[int] = 3
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
            longest=build.longest_example,
            left_out=f"{left_out:,} examples of the build are left out." if left_out else "None is left out.",
        )

    def card(self, *, build: BuildToExport) -> Mapping[str, Any]:
        return {"configs": configs_of(build, "train-*.jsonl"), "size_categories": [sizes_category(build)]}


def _lines(shard: ShardToExport, written: Written, own_words: Set[str]) -> Iterator[dict[str, Any]]:
    own = {"", *own_words}
    for block in shard.blocks:
        records = block.records().select(["id", "collection", "task", "teacher"]).to_pylist()
        tokens, trained = block.segments.example_tokens.tolist(), block.segments.example_trained_tokens.tolist()
        prompts = _prompt_tokens(block).tolist()
        for said, record, count, labels, prompt in zip(block.said(), records, tokens, trained, prompts, strict=True):
            why = said.why if record["teacher"] in own else OF_A_TEACHER
            written.lose(why or NO_LABELS, labels)
            if why is not None:
                written.notes["left out"] += 1
                continue
            written.examples += 1
            written.tokens += count
            written.risk(_CUTS, "prompts without their beginning", prompt > _DEFAULT_TOKENS)
            written.risk(_DROPS, "prompts dropped", prompt > _DEFAULT_TOKENS)
            written.risk(_ENDS, "references that no answer can reach", count - prompt > _DEFAULT_TOKENS)
            written.risk(_SHOWS_NONE, "prompts without their tools", bool(said.tools))
            yield _line(said, record)


def _prompt_tokens(block: RowBlock) -> np.ndarray:
    """Count, int64 [examples], the tokens before the last answer: before the run of trained segments that it is."""
    segments = block.segments
    trained = is_trained(segments.modes)
    at = np.arange(len(trained))
    follows = np.append(False, trained[:-1])
    follows[segments.example_starts[:-1]] = False
    begins = np.maximum.accumulate(np.where(trained & ~follows, at, 0))
    last = np.maximum.reduceat(np.where(trained, at, 0), segments.example_starts[:-1])
    return np.asarray(segments.token_starts[begins[last]] - block.example_bounds[:-1])


def _line(said: Said, record: Mapping[str, Any]) -> dict[str, Any]:
    *prompt, answer = said_lines(said)
    reference, task = _text(answer["content"]), record["task"]
    line = {"prompt": prompt, "reference": reference, "task": task}
    if calls := answer.get("tool_calls"):
        line["reference_calls"] = calls
    line |= {"collection": record["collection"], "id": record["id"]}
    line |= {"data_source": task, "reward_model": {"style": "rule", "ground_truth": reference}}
    return line | ({"tools": list(said.tools)} if said.tools else {})


def _text(content: str | Sequence[Mapping[str, Any]]) -> str:
    """Return a content as text, also where the template reads parts: a reward compares texts."""
    return content if isinstance(content, str) else "".join(part["text"] for part in content)
