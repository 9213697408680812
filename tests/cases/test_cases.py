"""Small inputs of real data that once went wrong, each with what is right."""

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from orca_recipes.cli.main import main
from tests.cases.judging import Outcome, faults_of, trained_turns

PLAIN = [
    "01_turn_flags",
    "02_tool_calls",
    "05_reasoning_content",
    "06_json_string",
    "07_content_parts",
    "08_developer",
    "13_lima",
    "20_save_to_disk",
    "22_s3",
    "24_task_take",
    "24_where",
    "30_dup_inputs",
    "31_input_output",
    "31b_reference",
    "33_empty_answer",
    "34_ids",
    "35_answer_float",
    "36_messages_and_answer",
    "37_sharegpt_mixed_keys",
    "41_hub_clone",
    "44_replay",
    "45_list_index",
    "46_prompt_completion_lists",
    "48_system_twice",
    "60b_json_string_parquet",
    "50_glm_like",
    "51_qwen3_like",
    "58_harmony_like",
    "60f_content_parts",
    "60g_mixed_role_from",
    "62_same_first_user_two_collections",
    "70_train_export",
]
"""Cases that are built from the recipe that lies beside them."""

WRITTEN = {
    "03_sharegpt_tools": {
        'on_bad_row = "reject"': 'on_bad_row = "reject"\nignore_keys = ["tools"]',
        'path = "data.jsonl"': 'path = "data.jsonl"\nroles = { function_call = "assistant" }',
    },
    "09_data_dict": {'path = "data.json"': 'path = "data.json"\nrows = "data"'},
    "11_alpaca": {'question = "instruction"': 'question = ["instruction", "input"]'},
    "12_dolly": {'columns = { question = "instruction", answer = "response", task = "category" }': 'shape = "dolly"'},
    "16_alpaca_instruct": {
        'question = "instruction"': 'question = ["instruction", "input"]',
        '[[rules]]\nstrategy = "alpaca"': "",
        'extra = ["input"]': "",
    },
    "19_oasst_flat": {'columns = { question = "text", id = "message_id" }': 'shape = "oasst"'},
    "19b_oasst_tree": {'columns = { messages = "prompt.replies" }': 'shape = "oasst_tree"\npaths = "best"'},
    "24_drop": {'drop = { q = "^de" }': 'where = { not = { q = { matches = "^de" } } }'},
}
"""Cases whose recipe needs other words: what stands there, and what is written in its place."""


@pytest.fixture(scope="module")
def cases(shared: Path) -> dict[str, Mapping[str, Any]]:
    """The right values, by case."""
    path = shared / "cases" / "expected.jsonl"
    if not path.is_file():
        pytest.skip(f"no cases at {path}")
    return {case["case"]: case for case in map(json.loads, path.read_text(encoding="utf-8").splitlines())}


@pytest.fixture
def inputs(shared: Path, tmp_path: Path) -> Path:
    """A copy of all inputs: a build writes its lock beside the recipe."""
    shutil.copytree(shared / "cases", tmp_path / "cases", copy_function=shutil.copyfile)
    return tmp_path / "cases" / "inputs"


def outcome_of(folder: Path) -> Outcome:
    """Build a case's recipe as it lies there and read what came of it."""
    out = folder / "built"
    places = ["--out", str(out), "--store", str(folder / "store"), "--traces", str(folder / "traces")]
    done = CliRunner().invoke(main, ["build", str(folder / "recipe.toml"), *places])
    if done.exit_code:
        return Outcome(exit=done.exit_code, stderr=done.stderr)
    return Outcome(exit=0, stderr=done.stderr, examples=_shown(out), rejected=_shown(out, "--rejected"))


def _shown(build: Path, *words: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(main, ["show", str(build), *words, "--json"])
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", PLAIN)
def test_a_case_comes_out_right(name: str, cases: dict[str, Mapping[str, Any]], inputs: Path) -> None:
    assert faults_of(outcome_of(inputs / name), cases[name]) == []


@pytest.mark.parametrize("name", WRITTEN)
def test_a_case_comes_out_right_in_other_words(name: str, cases: dict[str, Mapping[str, Any]], inputs: Path) -> None:
    recipe = inputs / name / "recipe.toml"
    text = recipe.read_text(encoding="utf-8")
    for old, new in WRITTEN[name].items():
        assert old in text
        text = text.replace(old, new)
    recipe.write_text(text, encoding="utf-8")
    assert faults_of(outcome_of(inputs / name), cases[name]) == []


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("11_alpaca", 'columns = { question = "instruction", answer = "output" }'),
        ("12_dolly", 'columns = { question = "instruction", answer = "response", task = "category" }'),
        ("13_lima", 'columns = { messages = "conversations" }'),
        ("19_oasst_flat", 'columns = { question = "text", id = "message_id" }'),
        ("19b_oasst_tree", 'columns = { messages = "prompt.replies" }'),
        ("46_prompt_completion_lists", 'columns = { messages = "prompt", answer = "completion" }'),
    ],
)
def test_a_case_whose_shape_is_recognised_comes_out_right(name: str, columns: str, cases, inputs: Path) -> None:
    recipe = inputs / name / "recipe.toml"
    text = recipe.read_text(encoding="utf-8")
    assert columns in text
    recipe.write_text(text.replace(columns, 'shape = "auto"'), encoding="utf-8")
    assert faults_of(outcome_of(inputs / name), cases[name]) == []


def test_rows_with_reasoning_are_rejected_by_name_where_bad_rows_are_let_go(cases, inputs):
    recipe = inputs / "05_reasoning_content" / "recipe.toml"
    text = recipe.read_text(encoding="utf-8")
    rule = 'on_bad_row = "reject"\nignore_keys = ["name"]'
    recipe.write_text(text.replace('path = "data.jsonl"', f'path = "data.jsonl"\n{rule}'), encoding="utf-8")
    assert faults_of(outcome_of(recipe.parent), cases[recipe.parent.name]) == []


CARRIES = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% if message.reasoning_content %}<think>\n"
    "{{ message.reasoning_content }}\n</think>\n\n{% endif %}{{ message.content }}"
    "{% for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.parametrize(
    ("name", "places", "trained"),
    [
        (
            "02_tool_calls",
            [1, 2, 3, 4],
            {1: ['<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</tool_call>']},
        ),
        ("05_reasoning_content", [1, 2, 3], {1: ["<think>\ntwo and two are four\n</think>\n\n4"]}),
        (
            "03_sharegpt_tools",
            [1, 2, 3, 4, 5, 6],
            {1: ['<tool_call>{"name": "now", "arguments": {}}</tool_call>', "Noon."]},
        ),
    ],
)
def test_a_template_that_prints_calls_and_thoughts_is_given_them(
    name: str, places: list[int], trained: dict[int, list[str]], cases, inputs: Path
) -> None:
    folder = inputs / name
    (folder / "tok").mkdir()
    shutil.copyfile(inputs.parent / "tokenizer.json", folder / "tok" / "tokenizer.json")
    about = {"chat_template": CARRIES, "eos_token": "<|im_end|>"}
    (folder / "tok" / "tokenizer_config.json").write_text(json.dumps(about), encoding="utf-8")
    recipe = folder / "recipe.toml"
    text = recipe.read_text(encoding="utf-8").replace('path = "../../tokenizer.json"', 'path = "tok"')
    recipe.write_text(text.replace('kind = "chatml"', 'kind = "from_tokenizer"'), encoding="utf-8")
    outcome = outcome_of(folder)
    assert faults_of(outcome, cases[name]) == []
    assert not outcome.rejected
    assert sorted({example["place"] for example in outcome.examples}) == places
    for place, texts in trained.items():
        told = [turn.text for one in outcome.examples if one["place"] == place for turn in trained_turns(one)]
        assert told[: len(texts)] == texts


def test_a_teacher_answers_the_last_question_of_a_conversation(cases, inputs):
    name = "42b_teacher_replace"
    with teacher(lambda question: f"TEACHER({question})") as (address, requests):
        asked_of(inputs / name, address)
        assert faults_of(outcome_of(inputs / name), cases[name]) == []
    assert sorted(requests) == sorted(cases[name]["requests"])


def test_an_empty_reply_is_no_answer_and_is_asked_for_again(cases, inputs):
    name = "43_teacher_empty"
    with teacher(lambda _: "") as (address, requests):
        asked_of(inputs / name, address)
        assert faults_of(outcome_of(inputs / name), cases[name]) == []
    assert 3 <= len(requests) <= 6
    with teacher(lambda question: f"TEACHER({question})") as (address, requests):
        asked_of(inputs / name, address)
        assert faults_of(outcome_of(inputs / name), cases[name]["again"]) == []
    assert len(requests) == 3


def asked_of(folder: Path, address: str) -> None:
    """Let a case's recipe ask the teacher at this address."""
    recipe = folder / "recipe.toml"
    text = re.sub(r'base_url = "[^"]*"', f'base_url = "{address}"', recipe.read_text(encoding="utf-8"))
    recipe.write_text(text, encoding="utf-8")


@contextmanager
def teacher(reply: Callable[[str], str]) -> Iterator[tuple[str, list[list[list[str]]]]]:
    """A server on loopback that answers the last user message; gives its address and the requests that it saw."""
    requests: list[list[list[str]]] = []

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            requests.append([[message["role"], message["content"]] for message in body["messages"]])
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant"}}
            choice["message"]["content"] = reply(requests[-1][-1][1])
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            about = {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"]}
            data = json.dumps({**about, "choices": [choice], "usage": usage}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", requests
    finally:
        server.shutdown()
        server.server_close()
