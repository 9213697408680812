"""JSON nested deeper than can be read is no JSON, wherever a file of it may lie."""

from collections.abc import Callable
from pathlib import Path

import pytest

from orca_plugins.sources.files.kind import Files
from orca_recipes import trust
from orca_recipes.errors import OrcaError
from orca_recipes.json_text import json_value

DEEP = '{"a": ' + "[" * 30_000 + "]" * 30_000 + "}"


def test_what_is_nested_too_deeply_is_a_value_error():
    assert json_value('{"a": [1]}') == json_value(b'{"a": [1]}') == {"a": [1]}
    with pytest.raises(ValueError, match="nested too deeply"):
        json_value(DEEP)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("trust.json", lambda folder: trust.allowed()),
        ("state.json", lambda folder: Files(path=folder).files()),
    ],
)
def test_files_that_are_nested_too_deeply_are_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, read: Callable[[Path], object]
):
    monkeypatch.setenv("ORCA_CONFIG", str(tmp_path))
    (tmp_path / name).write_text(DEEP)
    with pytest.raises(OrcaError) as refused:
        read(tmp_path)
    assert name in str(refused.value)
