"""Chat templates with their variables and clock pinned; how one is rendered is the contract's."""

from collections.abc import Mapping
from typing import Any

from orca_plugins.templates.jinja_text import literal, quoted
from orca_recipes.contract.templates.chat_template import ChatTemplate, Message, Refused

__all__ = ["ChatTemplate", "Message", "Refused", "pinned"]


def pinned(text: str, names: Mapping[str, Any], variables: Mapping[str, Any], dates: Mapping[str, str]) -> str:
    """Set names, variables and clock in the first lines of a template's text.

    Args:
        names: set in any case. variables: set where a conversation brings no others.
        dates: what the clock prints, by format; any other format is refused.
    """
    lines = [f"{{%- set {name} = {literal(value)} %}}" for name, value in sorted(names.items())]
    lines += [
        f"{{%- if {name} is not defined %}}{{%- set {name} = {literal(value)} %}}{{%- endif %}}"
        for name, value in sorted(variables.items())
    ]
    if dates:
        answers = [
            f"{{%- if format == {quoted(form)} -%}}{{{{- {quoted(day)} -}}}}" for form, day in sorted(dates.items())
        ]
        unknown = "{%- else -%}{{- raise_exception('no date is pinned in the format ' ~ format) -}}{%- endif -%}"
        body = answers[0] + "".join(answer.replace("{%- if", "{%- elif", 1) for answer in answers[1:]) + unknown
        lines.append("{%- macro strftime_now(format) -%}" + body + "{%- endmacro %}")
    return "".join(line + "\n" for line in lines) + text
