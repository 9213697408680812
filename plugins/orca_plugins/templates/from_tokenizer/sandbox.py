"""Chat templates with their variables and clock pinned; how one is rendered is the contract's."""

from collections.abc import Mapping
from typing import Any

from orca_plugins.templates.jinja_text import literal, quoted
from orca_recipes.contract.chat_template import ChatTemplate, Message, Refused

__all__ = ["ChatTemplate", "Message", "Refused", "pinned"]


def pinned(text: str, variables: Mapping[str, Any], dates: Mapping[str, str]) -> str:
    """The template's text with variables and clock set in its first lines."""
    lines = [f"{{%- set {name} = {literal(value)} %}}" for name, value in sorted(variables.items())]
    if dates:
        answers = [
            f"{{%- if format == {quoted(form)} -%}}{{{{- {quoted(day)} -}}}}{{%- endif -%}}"
            for form, day in sorted(dates.items())
        ]
        lines.append("{%- macro strftime_now(format) -%}" + "".join(answers) + "{%- endmacro %}")
    return "".join(line + "\n" for line in lines) + text
