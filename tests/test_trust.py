"""What a user allows recipes to send: the list, and that nothing goes to a pair that is not on it."""

import json
from pathlib import Path

import pytest

from orca_recipes import trust
from orca_recipes.contract.destination import Destination
from orca_recipes.errors import TrustError


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORCA_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.mark.parametrize(
    ("url", "host", "is_loopback"),
    [
        ("https://api.openai.com/v1", "api.openai.com", False),
        ("https://API.OpenAI.com:443/v1", "api.openai.com", False),
        ("https://api.example.com:8443", "api.example.com:8443", False),
        ("http://api.example.com/v1", "http://api.example.com", False),
        ("http://10.0.0.5:8000/v1", "http://10.0.0.5:8000", False),
        ("https://[2001:db8::1]:8443/v1", "[2001:db8::1]:8443", False),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000", True),
        ("http://127.8.8.8/v1", "http://127.8.8.8", True),
        ("http://localhost:8000/v1", "http://localhost:8000", True),
        ("http://[::1]:8000/v1", "http://[::1]:8000", True),
        ("https://localhost.example.com/v1", "localhost.example.com", False),
        ("https://127.0.0.1.example.com/v1", "127.0.0.1.example.com", False),
    ],
)
def test_a_destination_is_the_host_and_whether_it_is_this_machine(url: str, host: str, is_loopback: bool):
    found = Destination.of_url(url, "KEY")
    assert (found.host, found.variable, found.is_loopback) == (host, "KEY", is_loopback)


def test_pairs_are_added_listed_and_removed(config: Path):
    assert trust.allowed() == ()
    assert trust.add(trust.destination("api.openai.com", "OPENAI_API_KEY"))
    assert not trust.add(trust.destination("https://api.openai.com/v1", "OPENAI_API_KEY"))
    assert trust.add(trust.destination("http://10.0.0.5:8000", "-"))
    assert [str(each) for each in trust.allowed()] == [
        "api.openai.com (the value of OPENAI_API_KEY)",
        "http://10.0.0.5:8000 (no key)",
    ]
    assert [path.name for path in config.iterdir()] == ["trust.json"]
    assert trust.remove(trust.destination("http://10.0.0.5:8000", "-"))
    assert not trust.remove(trust.destination("http://10.0.0.5:8000", "-"))
    assert len(trust.allowed()) == 1


def test_a_host_is_allowed_with_one_variable_and_one_scheme_alone():
    trust.add(trust.destination("api.example.com", "A_KEY"))
    asked = [
        Destination.of_url("https://api.example.com/v1", "A_KEY"),
        Destination.of_url("https://api.example.com/v1", "ANOTHER_KEY"),
        Destination.of_url("http://api.example.com/v1", "A_KEY"),
        Destination.of_url("http://127.0.0.1:9/v1", "A_KEY"),
    ]
    assert trust.not_allowed(asked) == (asked[1], asked[2])
    with pytest.raises(TrustError, match=r"orca-recipe trust add api\.example\.com ANOTHER_KEY") as fault:
        trust.check(asked, owner="teachers.gpt")
    assert "nothing was sent" in str(fault.value)
    trust.check([asked[0], asked[3]], owner="teachers.gpt")


@pytest.mark.parametrize(("host", "variable"), [("", "A"), ("ftp://x", "A"), ("x", "A B"), ("x", "sk-123"), ("x", "")])
def test_what_is_no_host_or_no_name_is_refused(host: str, variable: str):
    with pytest.raises(TrustError):
        trust.destination(host, variable)


@pytest.mark.parametrize("text", ["{", "[]", '{"allowed": [1]}', '{"allowed": {"host": "x"}}'])
def test_a_list_that_cannot_be_read_allows_nothing(config: Path, text: str):
    config.mkdir()
    (config / "trust.json").write_text(text)
    with pytest.raises(TrustError, match=r"trust\.json"):
        trust.not_allowed([Destination("api.example.com")])


def test_the_list_is_json_for_other_tools(config: Path):
    trust.add(Destination("api.example.com", "A_KEY"))
    told = json.loads((config / "trust.json").read_text())
    assert told == {"allowed": [{"host": "api.example.com", "variable": "A_KEY"}]}
