"""`orca-pii`, a package outside of the house: installed beside ours, held to the contract, used by a recipe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.strangers.conftest import TOKENIZER, installed, orca

ROWS = {
    "Write to jane.doe@example.org.": "holds an e-mail address",
    "Pay with 4111 1111 1111 1111.": "holds a card number",
    "The number 4111 1111 1111 1112 is none of a card.": None,
    "Send it to GB82 WEST 1234 5698 7654 32.": "holds an account number",
    "Call +44 20 7946 0958 today.": "holds a telephone number",
    "The server is 192.168.0.17.": "holds an IP address",
    "Version 1.2.3 of 2024 has 1,234,567 lines.": None,
    "Nothing to see.": None,
}
RECIPE = """\
name = "private"

[requires]
plugins = ["orca-pii>=1,<2"]

[collections.rows]
kind = "files"
path = "rows.jsonl"
columns = {{ question = "q", reference = "a" }}

[datasets.main]
filters = ["pii"]

[tokenizer]
kind = "hf"
path = "{tokenizer}"

[template]
kind = "chatml"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package installed in `site`, and a recipe."""
    made = tmp_path_factory.mktemp("pii")
    installed(made, "orca-pii")
    rows = [json.dumps({"q": f"Question {n}?", "a": answer}) for n, answer in enumerate(ROWS)]
    (made / "rows.jsonl").write_text("\n".join(rows))
    (made / "private.toml").write_text(RECIPE.format(tokenizer=TOKENIZER.as_posix()))
    return made


def test_its_kind_keeps_the_contract(folder: Path) -> None:
    told = orca(folder, "plugin", "test", "orca-pii", "--json")
    (kind,) = json.loads(told.stdout)["kinds"]
    assert (kind["name"], kind["failures"]) == ("pii", [])


def test_a_recipe_counts_what_it_rejects_by_kind(folder: Path) -> None:
    done = orca(folder, "build", "private.toml", "--json")
    assert done.returncode == 0, done.stderr
    stages = json.loads(done.stdout)["stages"]
    (converse,) = [stage for name, stage in stages.items() if name.startswith("converse")]
    wanted: dict[str, int] = {}
    for reason in ROWS.values():
        if reason is not None:
            wanted[reason] = wanted.get(reason, 0) + 1
    assert converse["rejected"] == wanted


def test_without_it_the_recipe_says_what_to_install_and_nothing_else(folder: Path) -> None:
    done = orca(folder, "build", "private.toml", site="nowhere")
    assert done.returncode == 2
    assert "which is not installed: pip install 'orca-pii>=1,<2'" in done.stderr
    assert "pii" not in done.stderr.replace("orca-pii", "")
