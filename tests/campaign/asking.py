"""A recipe that has a server of ours answer its questions."""

import json
from collections.abc import Iterable
from pathlib import Path

from tests.campaign.trial import HOME

_RECIPE = """\
name = "asking"
[collections.questions]
kind = "files"
path = "questions.jsonl"
columns = {{ question = "q", reference = "a" }}
[teachers.stub]
kind = "openai"
model = "stub-1"
max_tokens = 400
leave_out = ["tool_calls"]
endpoints = [{{ base_url = "{base_url}", {endpoint} }}]
[datasets.main]
teacher = "stub"
[tokenizer]
kind = "hf"
path = "{tokenizer}"
[template]
kind = "chatml"
[packing]
row_tokens = 512
"""


def written_asking(folder: Path, questions: Iterable[tuple[str, str]], base_url: str, endpoint: str) -> Path:
    """Write the recipe into a folder, with its questions beside it.

    Args:
        questions: each with its reference answer. endpoint: more options of the server at `base_url`.
    """
    rows = [json.dumps({"q": question, "a": answer}) + "\n" for question, answer in questions]
    (folder / "questions.jsonl").write_text("".join(rows), encoding="utf-8")
    tokenizer = (HOME / "recipes" / "quickstart" / "tokenizer.json").as_posix()
    path = folder / "asking.toml"
    path.write_text(_RECIPE.format(base_url=base_url, tokenizer=tokenizer, endpoint=endpoint), encoding="utf-8")
    return path
