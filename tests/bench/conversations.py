"""Every real conversation of the shared data, as chat messages.

All that may be trained on is taken, once and in a fixed order; `eval/` is left out, because its rows are for evaluation
alone, and so are the answers of small models in `responses/`. NiV2 is asked as it usually is, with its definition and
two examples before the instance.
"""

import csv
import gzip
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Conversation = list[tuple[str, str]]
"""Role and content of each message."""

_SHAREGPT_ROLES = {"human": "user", "gpt": "assistant", "function_call": "assistant", "observation": "tool"}


def conversations(shared: Path) -> Iterator[Conversation]:
    """Conversations whose last message is an answer, none of them empty.

    Args:
        shared: the folder that holds `niv2/`, `cot/` and so on.
    """
    for conversation in _all(shared):
        answers = [at for at, (role, _) in enumerate(conversation) if role == "assistant"]
        if answers and answers[-1] > 0 and conversation[answers[-1]][1].strip():
            yield conversation[: answers[-1] + 1]


def _all(shared: Path) -> Iterator[Conversation]:
    for path in sorted((shared / "chat").glob("*.jsonl")):
        yield from (_messages(row["messages"]) for row in _rows(path))
    for path in sorted((shared / "cot").glob("*.tsv.gz")):
        yield from _reasoned(path)
    for row in _rows(shared / "gsm8k" / "train.jsonl.gz"):
        yield _asked(row["question"], row["answer"])
    yield from _dialogues(shared / "multi_turn")
    for path in sorted((shared / "niv2" / "tasks").glob("*.json")):
        yield from _instances(path)
    yield from _orca(shared / "orca")
    yield from _responses(shared / "responses")
    for row in _rows(shared / "t0" / "p3_rows.jsonl.gz"):
        yield _asked(row["inputs"], row["targets"])


def _reasoned(path: Path) -> Iterator[Conversation]:
    """FLAN's tables: question, answer, rationale; their line breaks are written as backslash n."""
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
        for row in csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            question, answer, rationale = (field.replace("\\n", "\n") for field in row[:3])
            yield _asked(question, f"{rationale}\nThe answer is {answer}.")


def _dialogues(folder: Path) -> Iterator[Conversation]:
    for row in json.loads(_text(folder / "glaive_toolcall_en_demo.json.gz")):
        turns = [(_SHAREGPT_ROLES[turn["from"]], turn["value"]) for turn in row["conversations"]]
        yield [("system", row["tools"]), *turns]
    for row in _rows(folder / "oasst_trees.jsonl.gz"):
        yield from _branches(row["prompt"], [])


def _branches(message: dict[str, Any], before: Conversation) -> Iterator[Conversation]:
    """Every way from the root of a message tree to a leaf."""
    role = "user" if message["role"] == "prompter" else "assistant"
    sofar = [*before, (role, message["text"])]
    if not message.get("replies"):
        yield sofar
    for reply in message.get("replies", []):
        yield from _branches(reply, sofar)


def _instances(path: Path) -> Iterator[Conversation]:
    task = json.loads(_text(path))
    definition = "\n".join(task["Definition"])
    shots = "".join(
        f"Input: {shot['input']}\nOutput: {_first(shot['output'])}\n\n" for shot in task["Positive Examples"][:2]
    )
    for instance in task["Instances"]:
        question = f"{shots}Input: {instance['input']}\nOutput:"
        yield [("system", definition), *_asked(question, _first(instance["output"]))]


def _first(output: str | list[str]) -> str:
    return output if isinstance(output, str) else output[0]


def _orca(folder: Path) -> Iterator[Conversation]:
    for row in _rows(folder / "openorca_like.jsonl"):
        yield [("system", row["system_prompt"]), *_asked(row["question"], row["response"])]
    for row in _rows(folder / "orca_pairs.jsonl.gz"):
        for answers in ("preferred_output", "non_preferred_output"):
            yield _messages([*row["input"]["messages"], *row[answers]])


def _responses(folder: Path) -> Iterator[Conversation]:
    for row in _rows(folder / "dolly_flan_t5.jsonl.gz"):
        yield _asked(row["instruction"], row["response"])
    for name in ("gpteacher_codegen.jsonl.gz", "gpteacher_toolformer.jsonl.gz"):
        for row in _rows(folder / name):
            yield _asked(_joined(row), row["response"])
    for row in json.loads(_text(folder / "identity.json")):
        yield _asked(_joined(row), row["output"])


def _joined(row: dict[str, str]) -> str:
    return "\n\n".join(text for text in (row["instruction"], row.get("input") or "") if text)


def _asked(question: str, answer: str) -> Conversation:
    return [("user", question), ("assistant", answer)]


def _messages(messages: Iterable[dict[str, str]]) -> Conversation:
    return [(message["role"], message["content"]) for message in messages]


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    yield from (json.loads(line) for line in io.StringIO(_text(path), newline="\n"))


def _text(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
