"""Keys that keep Python's reader of TOML busy for minutes."""

import pytest

from orca_recipes.contract.toml_text import MOST_PARTS, toml_table

LONG = MOST_PARTS + 1


@pytest.mark.parametrize(
    "text",
    [
        ".".join(["a"] * 40_000) + " = 1",
        "x = 1\n\n[" + ".".join(["b"] * LONG) + "]",
        "x = 1\n\n[[" + " . ".join(['"b"'] * LONG) + "]]",
        "\n\nx = { y = 1, " + ".".join(["'a'"] * LONG) + " = 1 }",
    ],
)
def test_a_key_of_very_many_parts_is_refused_with_its_line(text: str) -> None:
    line = 1 if text.startswith("a") else 3
    with pytest.raises(ValueError, match=f"^line {line}: a key has more than 100 parts$"):
        toml_table(text)


def test_dots_in_texts_are_no_keys() -> None:
    assert toml_table(f'x = "{".".join(["a"] * 500)}"\ny = 0.5\n"a.b" = {{ c.d = 1 }}')["a.b"] == {"c": {"d": 1}}


def test_what_is_no_toml_is_refused_as_ever() -> None:
    with pytest.raises(ValueError, match="Invalid value"):
        toml_table("x = ")
