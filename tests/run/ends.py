"""A tokenizer whose template ends an answer by two control tokens, and a small build with it."""

import json
from pathlib import Path

import tokenizers

from orca_recipes.progress import Progress
from orca_recipes.run.build import build
from tests.run.small import QUICKSTART_TOKENIZER, asked, write_rows

CONTROL = ["<|START|>", "<|USER|>", "<|BOT|>", "<|END_RESPONSE|>", "<|END_TURN|>", "<|old|>"]
COHERE_LIKE = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ '<|START|><|USER|>' + m.content + '<|END_TURN|>\n' }}"
    "{% else %}{{ '<|START|><|BOT|>' + m.content + '<|END_RESPONSE|>' + between + '<|END_TURN|>\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|START|><|BOT|>' }}{% endif %}"
)
ONE_END = COHERE_LIKE.replace("between", "''")

RECIPE = """
name = "ends"

[collections.chats]
kind = "files"
path = "chats.jsonl"
columns = { messages = "messages" }

[tokenizer]
kind = "hf"
path = "tokenizer"

[template]
kind = "from_tokenizer"

[packing]
row_tokens = 128
"""


def write_tokenizer(folder: Path, template: str, *, eos: str | None = None, post_processor: dict | None = None) -> Path:
    """The quickstart's tokenizer with more control tokens and a chat template."""
    folder.mkdir(parents=True)
    tokenizer = tokenizers.Tokenizer.from_file(str(QUICKSTART_TOKENIZER))
    tokenizer.add_special_tokens(CONTROL)
    definition = json.loads(tokenizer.to_str())
    if post_processor:
        definition["post_processor"] = post_processor
    (folder / "tokenizer.json").write_text(json.dumps(definition))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": eos} if eos else {}))
    (folder / "chat_template.jinja").write_text(template)
    return folder


def make_build(folder: Path, template: str, **settings) -> Path:
    write_tokenizer(folder / "tokenizer", template, **settings)
    chats = [["user: Hi", f"assistant: Hello {n}", "user: And?", "assistant: Bye."] for n in range(4)]
    rows = [
        {"messages": [dict(zip(("role", "content"), turn.split(": "), strict=True)) for turn in chat]} for chat in chats
    ]
    write_rows(folder / "chats.jsonl", rows)
    (folder / "ends.toml").write_text(RECIPE)
    build(asked(folder / "ends.toml"), Progress())
    return folder / "out"
