"""A kind's docstring, parted in prose and its TOML example.

The example is found by being TOML, not by its indentation: where it is all that follows the first line, cleaning the
docstring takes the indentation away, and Python 3.13 does so itself.
"""

import inspect
import re
import textwrap
import tomllib


def parted(docstring: str | None) -> tuple[str, str]:
    """Part prose and example, the longest run of paragraphs that is TOML and sets something; "" where there is none."""
    paragraphs = re.split(r"\n[ \t]*\n", inspect.cleandoc(docstring or ""))
    runs = [(start, stop) for start in range(len(paragraphs)) for stop in range(start + 1, len(paragraphs) + 1)]
    for start, stop in sorted(runs, key=lambda run: run[0] - run[1]):
        example = textwrap.dedent("\n\n".join(paragraphs[start:stop])).strip("\n")
        if _sets_something(example):
            return "\n\n".join(paragraphs[:start] + paragraphs[stop:]).strip("\n"), example
    return "\n\n".join(paragraphs), ""


def _sets_something(text: str) -> bool:
    try:
        return bool(tomllib.loads(text))
    except tomllib.TOMLDecodeError:
        return False
