"""A jinja chat template, rendered as transformers renders it: what inference makes of a conversation.

Same settings and functions as `apply_chat_template` (transformers, utils/chat_template_utils.py), in jinja's sandbox,
because a template comes from the network. The clock is the one thing that differs: it stands at a date that the recipe
gives, and every format it was asked for is kept, so that a template can be written with its answers in it. What a
rendering may cost is bounded (`template_work`). It stands in
the contract because kinds take templates apart with it, and the core holds what it makes against what it prints.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from orca_recipes.contract.spelling import printable
from orca_recipes.contract.templates.template_work import Work, bounded_environment
from orca_recipes.errors import TemplateError

if TYPE_CHECKING:
    import jinja2

Message = Mapping[str, Any]
_FORMATS = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1""")


class Refused(Exception):
    """The template does not print this conversation, in its own words."""


class ChatTemplate:
    """A template with what it is given beside the messages."""

    def __init__(self, text: str, variables: Mapping[str, Any], today: date | None) -> None:
        """Raises: TemplateError where the text is no jinja."""
        self.text = text
        self._variables = {"tools": None, "documents": None, **variables}
        self._clock = _Clock(today)
        self._template, self._work = _compiled(text, self._clock)

    def with_variables(self, variables: Mapping[str, Any]) -> ChatTemplate:
        """Return the template with these variables beside those it has; it is not compiled again."""
        made = copy.copy(self)
        made._variables = {**self._variables, **variables}
        return made

    @property
    def dates(self) -> Mapping[str, str]:
        """Return the dates printed by the clock so far: strftime format to text."""
        return dict(self._clock.said)

    def ask_dates(self) -> None:
        """Ask a stopped clock for every date format in the template's text, to fill `dates`."""
        for match in _FORMATS.finditer(self.text) if self._clock.stands else ():
            self._clock(match.group(2))

    def render(
        self,
        messages: Sequence[Message],
        *,
        generation_prompt: bool = False,
        variables: Mapping[str, Any] = MappingProxyType({}),
    ) -> str:
        """Render a conversation as text.

        Args:
            variables: what this conversation is given besides, tools among them.
        Raises: Refused where the template raises; TemplateError where it asks for the time and no date is given, or
        costs more than a template may.
        """
        given = [dict(message) for message in messages]
        told = {**self._variables, **variables}
        self._work.begin(messages, variables)
        try:
            return str(self._template.render(messages=given, add_generation_prompt=generation_prompt, **told))
        except TemplateError:
            raise
        except Exception as fault:  # templates fail with whatever their expressions raise
            raise Refused(str(fault) or type(fault).__name__) from None


def literals(text: str) -> list[str]:
    """List the string literals in a template's expressions, each once, sorted: texts it compares contents with, and
    more."""
    import jinja2

    try:
        tokens = list(jinja2.Environment(trim_blocks=True, lstrip_blocks=True).lexer.tokenize(text))
    except jinja2.TemplateError:
        return []
    return sorted({str(token.value) for token in tokens if token.type == "string"})


class _Clock:
    """`strftime_now`, standing at noon of a given day."""

    def __init__(self, today: date | None) -> None:
        self._now = None if today is None else datetime.combine(today, time(12))
        self.stands = today is not None
        self.said: dict[str, str] = {}

    def __call__(self, form: str) -> str:
        if self._now is None:
            raise TemplateError(
                "the tokenizer's chat template prints the date, so that every day would give other tokens; "
                'pin it: set date = "2024-07-26" (or another day) in [template]'
            )
        self.said[form] = self._now.strftime(form)
        return self.said[form]


def _compiled(text: str, clock: _Clock) -> tuple[jinja2.Template, Work]:
    import jinja2
    from jinja2.ext import loopcontrols

    environment = bounded_environment()(
        trim_blocks=True, lstrip_blocks=True, extensions=[_generation_blocks(), loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = clock
    environment.seal()
    try:
        template = environment.from_string(text)
    except jinja2.TemplateError as fault:
        raise TemplateError(f"the tokenizer's chat template is not valid jinja: {printable(str(fault))}") from None
    except (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError) as fault:
        # What Python says of the code that jinja made: blocks or brackets nested too deep, names given twice.
        raise TemplateError(
            f"the tokenizer's chat template cannot be compiled: {printable(str(fault) or type(fault).__name__)}"
        ) from None
    # jinja (3.1) hands over a chain of mappings, and copies it at each rendering name by name: a third of a short one.
    template.globals = dict(template.globals)
    return template, environment.work


def _generation_blocks() -> Any:
    """Make the jinja extension for `{% generation %}`, which marks answers and prints its body."""
    from jinja2 import nodes
    from jinja2.ext import Extension
    from jinja2.parser import Parser

    class GenerationBlocks(Extension):
        tags = {"generation"}

        def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    return GenerationBlocks


def _raise_exception(message: str) -> NoReturn:
    raise Refused(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write JSON without the escapes for HTML that jinja's own filter makes."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
