"""What teachers think and call is kept in traces, trained where the template prints it, and never dropped unsaid."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner, Result

from orca_recipes.cli.main import main
from orca_recipes.contract.answers import request_key
from tests.run.small import QUICKSTART_TOKENIZER, write_rows
from tests.run.spoken import trained_texts
from tests.servers.running import running
from tests.servers.stub import Stub

TEMPLATE = """\
{%- if tools %}{{ '<|im_start|>system\\n' + (tools | tojson) + '<|im_end|>\\n' }}{% endif %}
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.reasoning_content %}{{ '<think>\\n' + message.reasoning_content + '\\n</think>\\n\\n' }}{% endif %}
{{- message.content }}
{%- for call in message.tool_calls or [] %}{{ '<tool_call>' + (call.function | tojson) + '</tool_call>' }}{% endfor %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
RECIPE = """
name = "small"

[collections.c]
kind = "files"
path = "c.jsonl"
columns = { messages = "messages" }

[teachers.t]
kind = "openai"
model = "m"
endpoints = [{ base_url = "URL" }]

[datasets.main]
teacher = "t"

[tokenizer]
kind = "hf"
path = "tokenizer"

[template]
kind = "from_tokenizer"

[packing]
row_tokens = 512
"""
TOOLS = [{"type": "function", "function": {"name": "sum", "parameters": {"type": "object"}}}]
CALL = {"id": "c1", "type": "function", "function": {"name": "sum", "arguments": '{"of": [1, "é"]}'}}
REPLIES: dict[str, dict[str, Any]] = {
    "plain?": {},
    "thinks?": {"reasoning_content": "Let me see."},
    "calls?": {"content": None, "tool_calls": [CALL], "reasoning": "I add."},
    "again?": {},
    "breaks?": {"content": None, "tool_calls": [{"function": {"name": "sum", "arguments": "{"}}]},
}


@dataclass
class Desk:
    """Five conversations, a server that thinks and calls, and a command line."""

    folder: Path
    stub: Stub

    def run(self, *words: str, status: int = 0) -> Result:
        done = CliRunner().invoke(main, [*words, "--traces", str(self.folder / "traces")])
        assert done.exit_code == status, done.output
        return done

    def build(self, *words: str, out: str = "out", status: int = 0) -> Result:
        places = ["--out", str(self.folder / out), "--store", str(self.folder / "store"), "--workers", "1"]
        return self.run("build", str(self.folder / "small.toml"), *places, *words, status=status)

    def rejected(self, out: str = "out") -> dict[int, str]:
        table = pl.read_parquet(self.folder / out / "main" / "rejected.parquet")
        return dict(table.select("line", "reason").iter_rows())


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rows: list[dict[str, Any]] = [{"messages": [{"role": "user", "content": text}]} for text in REPLIES]
    rows[2]["tools"] = TOOLS
    calls = [{**CALL, "function": {"name": "sum", "arguments": {"of": [2]}}}]
    before = [
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "", "tool_calls": calls, "train": False},
        {"role": "tool", "content": "2", "tool_call_id": "c1"},
        {"role": "assistant", "content": "It is 2.", "train": False},
    ]
    rows[3] = {"messages": [*before, *rows[3]["messages"]], "tools": TOOLS}
    write_rows(tmp_path / "c.jsonl", rows)
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_bytes(QUICKSTART_TOKENIZER.read_bytes())
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "chat_template": TEMPLATE}
    (tmp_path / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    stub = Stub(says=lambda body: "Said.", adds=lambda body: REPLIES[body["messages"][-1]["content"]])
    with running(stub) as base_url:
        (tmp_path / "small.toml").write_text(RECIPE.replace("URL", base_url), encoding="utf-8")
        yield Desk(tmp_path, stub)


def test_thoughts_and_calls_are_kept_trained_and_exported(desk: Desk) -> None:
    desk.build()
    called = '<think>\nI add.\n</think>\n\n<tool_call>{"name": "sum", "arguments": {"of": [1, "é"]}}</tool_call>'
    wanted = ["Said.", "<think>\nLet me see.\n</think>\n\nSaid.", called, "Said."]
    assert sorted(text for (text,) in trained_texts(desk.folder / "out").values()) == sorted(wanted)
    assert desk.rejected() == {5: "a tool call whose arguments are no JSON object"}

    sent = {body["messages"][-1]["content"]: body for body in desk.stub.bodies}
    assert sent["calls?"]["tools"] == TOOLS
    assert "tools" not in sent["plain?"]
    told = {**CALL, "function": {"name": "sum", "arguments": '{"of": [2]}'}}
    assert sent["again?"]["messages"][1] == {"role": "assistant", "content": "", "tool_calls": [told]}
    assert sent["again?"]["messages"][2] == {"role": "tool", "content": "2", "tool_call_id": "c1"}

    held = {}
    for name in ("t.jsonl", "t.parquet"):
        path, other = desk.folder / name, str(desk.folder / f"of {name}")
        desk.run("traces", "export", str(path))
        done = CliRunner().invoke(main, ["traces", "import", str(path), "--traces", other])
        assert "5 taken, 0 there already, 0 refused" in done.output, done.output
        back = desk.folder / f"back of {name}.jsonl"
        assert CliRunner().invoke(main, ["traces", "export", str(back), "--traces", other]).exit_code == 0
        held[name] = sorted(map(json.loads, back.read_text(encoding="utf-8").splitlines()), key=str)
    assert held["t.jsonl"] == held["t.parquet"]
    lines = {line["question"]["messages"][-1][1]: line for line in held["t.jsonl"]}
    assert lines["thinks?"]["reasoning"] == "Let me see."
    assert (lines["calls?"]["text"], lines["calls?"]["reasoning"]) == ("", "I add.")
    assert json.loads(lines["calls?"]["tool_calls"])[0]["function"]["arguments"] == {"of": [1, "é"]}
    plain = lines["plain?"]
    assert not {"reasoning", "tool_calls"} & set(plain)
    assert set(plain["question"]) == {"messages", "sampling", "sample"}
    assert plain["key"] == request_key(messages=[("user", "plain?")], sampling={"model": "m"}).hex()


def test_what_a_template_cannot_print_rejects_by_name_and_may_be_left_out(desk: Desk) -> None:
    chatml = ("--set", 'template={kind="chatml"}')
    desk.build(*chatml)
    no_place = "no place for it in this template; the kind from_tokenizer may have one"
    assert desk.rejected()[2] == f"reasoning (reasoning_content, thinking) of a message: {no_place}"
    asked = len(desk.stub.bodies)
    desk.build("--set", 'teachers.t.leave_out=["reasoning", "tool_calls"]', out="less")
    assert len(desk.stub.bodies) == asked
    assert sorted(text for (text,) in trained_texts(desk.folder / "less").values()) == ["Said."] * 3
    assert desk.rejected("less")[3] == "a tool call in place of an answer"
