"""Conversations as text, for trainers that apply a chat template themselves.

What the template prints of these messages is the build's text; which of it carries loss is the trainer's own to find
out, so nothing here is a mask.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from orca_plugins.exporters.token_columns import (
    CUT_OFF,
    TRAINED_TOO,
    TRL_MAX_LENGTH,
    configs_of,
    file_of,
    labels_past,
    others,
    said_lines,
    sizes_category,
)
from orca_recipes.contract.exporter import BuildToExport, Exporter, Said, Shards, ShardToExport, Written
from orca_recipes.counted import counted

UNTRAINED = "earlier answers without loss"
PARTLY_TRAINED = "examples of which parts of answers carry loss"
WITH_TOOLS = "examples with tools"
WITHOUT_SYSTEM = "examples without a system message"
_NOTED = (UNTRAINED, PARTLY_TRAINED, WITH_TOOLS, WITHOUT_SYSTEM)

_SETTINGS = """\
## Trainers that apply the template

One line is one conversation: `messages` of `role` and `content`{others}. Give the trainer the tokenizer in
`tokenizer/`: another chat template makes other text, and other labels.

- TRL: `SFTConfig(assistant_only_loss=True, max_length={row_tokens})`, with a template that marks answers by
  `{{% generation %}}`; without `assistant_only_loss` questions are trained too. `--to hf` needs neither;
- LLaMA-Factory: in `dataset_info.json`, `"formatting": "sharegpt", "columns": {{"messages": "messages"}}, "tags":
  {{"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant", "system_tag":
  "system"}}`, and a `template` of its own that prints what `tokenizer/chat_template.jinja` prints;
- ms-swift: `--dataset {dataset}/*.jsonl`{marks};
- Megatron-LM `--sft`: it begins a conversation at each system message; {without_system:,} examples here have none and
  would be joined to the one before;
- verl: `datasets.load_dataset("json", ...).to_parquet(...)`, then `data.messages_key=messages`.
{more}"""
_TRUNCATES = f"`max_length` left at TRL's {TRL_MAX_LENGTH:,}"
_MARKED = ", which keeps to `loss` of each message"
_UNMARKED = """
**{count:,} earlier answers carry no loss in the build**, and trainers would train them: `--set marks=true` writes
`loss` at each message, which ms-swift alone reads; `--to hf` keeps the labels in all trainers.
"""
_PARTLY = """
**Of {examples} only some parts of the answers carry loss in the build** (`train_on`), and trainers train whole
messages: `--to hf` keeps the labels in all trainers.
"""
_TOOLS = """
**{count:,} examples have tools or calls.** `tools` stands beside `messages`, `tool_calls` in them, both as objects.
Readers that give all lines one schema (older `datasets`, pandas) fill in as null what other calls have, and templates
print that: read the lines one by one there.
"""


class Messages(Exporter):
    """Write JSON lines of `messages`, for trainers that apply the chat template: ms-swift, verl, LLaMA-Factory, TRL.

    kind = "messages"
    marks = true
    """

    revision: ClassVar[int] = 3
    title: ClassVar[str] = "trainers that apply the chat template"
    kind: Literal["messages"] = "messages"
    marks: Annotated[bool, Field(description="write `loss` at each message, as ms-swift reads it")] = False

    def write(self, *, build: BuildToExport, shard: ShardToExport, folder: Path) -> Written:
        written = Written(notes=dict.fromkeys(_NOTED, 0))
        path = folder / shard.dataset.name / file_of(shard, ".jsonl")
        path.parent.mkdir(exist_ok=True)
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(
                json.dumps(self._line(said, written), ensure_ascii=False) + "\n" for said in _told(shard, written)
            )
        return written

    def _line(self, said: Said, written: Written) -> dict[str, Any]:
        line: dict[str, Any] = {"messages": said_lines(said)}
        if self.marks:
            for one, message in zip(line["messages"], said.messages, strict=True):
                one["loss"] = message.trained
        written.notes[UNTRAINED] += sum(one.role == "assistant" and not one.trained for one in said.messages)
        written.notes[PARTLY_TRAINED] += said.is_partly_trained
        written.notes[WITHOUT_SYSTEM] += said.messages[0].role != "system"
        written.notes[WITH_TOOLS] += bool(said.tools or any("tool_calls" in one.beside for one in said.messages))
        return line | _beside(said)

    def settings(self, *, build: BuildToExport, shards: Shards) -> str:
        every = [written for of_dataset in shards.values() for written in of_dataset]
        noted = {name: sum(one.notes[name] for one in every) for name in _NOTED}
        words = ((UNTRAINED, _UNMARKED), (PARTLY_TRAINED, _PARTLY), (WITH_TOOLS, _TOOLS))
        return _SETTINGS.format(
            dataset=build.datasets[0].name,
            others=others(build),
            row_tokens=build.row_tokens,
            marks=_MARKED if self.marks else "",
            without_system=noted[WITHOUT_SYSTEM],
            more="".join(_counted(text, noted[name]) for name, text in words if noted[name]),
        )

    def card(self, *, build: BuildToExport) -> Mapping[str, Any]:
        return {"configs": configs_of(build, "train-*.jsonl"), "size_categories": [sizes_category(build)]}


def _counted(text: str, number: int) -> str:
    return text.format(count=number, examples=counted(number, "example"))


def _told(shard: ShardToExport, written: Written) -> Iterator[Said]:
    """Yield a shard's examples that messages can express; the labels of all others are counted as lost, by reason."""
    for block in shard.blocks:
        lengths, trained = block.segments.example_tokens.tolist(), block.segments.example_trained_tokens.tolist()
        cut = labels_past(block, block.example_bounds, TRL_MAX_LENGTH).tolist()
        for said, tokens, labels, lost in zip(block.said(), lengths, trained, cut, strict=True):
            if said.why is not None:
                written.lose(said.why, labels)
                continue
            written.examples += 1
            written.tokens += tokens
            written.trained_labels += labels
            written.risk("`assistant_only_loss` left off (TRL)", TRAINED_TOO, tokens - 1 - labels)
            written.risk(_TRUNCATES, CUT_OFF, lost)
            yield said


def _beside(said: Said) -> dict[str, Any]:
    """Return tools, and variables of the template, under the names by which trainers look for them."""
    found = {"tools": list(said.tools), "chat_template_kwargs": dict(said.variables)}
    return {name: value for name, value in found.items() if value}
