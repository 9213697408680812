"""Templates of turns: each role has a header before its messages and a footer after them, whatever stands beside.

The markup and the jinja text that is shipped are made from the same turns, so that they cannot drift apart.
"""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from orca_plugins.templates.jinja_text import quoted
from orca_recipes.contract.kinds import Vocabulary
from orca_recipes.contract.markup import START, Joint, Markup, Role
from orca_recipes.errors import TemplateError


class Turn(BaseModel):
    """Texts before and after a message; an assistant's footer comes after the terminator, untrained."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    header: str = ""
    footer: str = ""


def turns_markup(
    turns: Mapping[Role, Turn], *, opening: str, terminator: str, default_system: str | None = None
) -> Markup:
    """Build the markup of turns in any order.

    Args:
        opening: the text before everything (BOS, or nothing).
        terminator: the control token that ends an answer.
        default_system: the system message of a conversation that has none.
    """
    joints = {(START, role): Joint("", opening + turn.header) for role, turn in turns.items()}
    for before, turn in turns.items():
        joints |= {(before, after): Joint(turn.footer, other.header) for after, other in turns.items()}
    return Markup(
        joints=joints,
        terminator=terminator,
        chat_template=_jinja(turns, opening, terminator, default_system),
        default_system=default_system,
    )


def opening_token(vocabulary: Vocabulary, wanted: bool) -> str:
    """Return the token that begins every conversation, an empty text if none is wanted. Raises: TemplateError where the
    tokenizer has none."""
    if not wanted:
        return ""
    if vocabulary.bos is None:
        raise TemplateError("template.bos: the tokenizer names no token that begins a text; set `bos` in [tokenizer]")
    return control_token(vocabulary, vocabulary.bos, "bos")


def control_token(vocabulary: Vocabulary, text: str, option: str) -> str:
    """Check that a text is a control token fit for a template, and return it. Raises: TemplateError."""
    if text not in vocabulary.control:
        raise TemplateError(
            f"template.{option}: {text} is no control token of the tokenizer; "
            "add it by `add_special_tokens` in [tokenizer]"
        )
    if text in vocabulary.eats_space:
        raise TemplateError(
            f"template.{option}: the tokenizer's {text} swallows white space beside it (lstrip, rstrip), "
            "so that texts around it change; choose another token"
        )
    return text


def _jinja(turns: Mapping[Role, Turn], opening: str, terminator: str, default_system: str | None) -> str:
    """Write the turns as a jinja template; every tag strips the white space around it, so that no setting of jinja
    matters."""
    lines = [f"{{{{- {quoted(opening)} -}}}}"] if opening else []
    if default_system is not None:
        lines += ["{%- if not messages or messages[0]['role'] != 'system' -%}"]
        lines += [
            f"{{{{- {quoted(turns['system'].header + default_system + turns['system'].footer)} -}}}}",
            "{%- endif -%}",
        ]
    lines.append("{%- for message in messages -%}")
    for place, (role, turn) in enumerate(turns.items()):
        after = (terminator if role == "assistant" else "") + turn.footer
        parts = [quoted(turn.header), "message['content']", quoted(after)]
        lines.append(f"{{%- {'if' if place == 0 else 'elif'} message['role'] == {quoted(role)} -%}}")
        lines.append("{{- " + " + ".join(part for part in parts if part != '""') + " -}}")
    names = ", ".join(turns)
    lines += [
        "{%- else -%}",
        f"{{{{- raise_exception({quoted(f'the roles are {names}')}) -}}}}",
        "{%- endif -%}",
        "{%- endfor -%}",
    ]
    prompt = turns["assistant"].header
    if prompt:
        lines += ["{%- if add_generation_prompt -%}", f"{{{{- {quoted(prompt)} -}}}}", "{%- endif -%}"]
    return "\n".join(lines) + "\n"
