"""What a chat template may cost: endless loops, growing texts and huge numbers are refused, all else prints as ever."""

from pathlib import Path

import jinja2
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from orca_recipes.contract.templates.chat_template import ChatTemplate, Refused
from orca_recipes.contract.templates.template_work import ALLOWED, Work, size
from orca_recipes.errors import TemplateError

MESSAGES = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "there"}]
DOUBLING = "{%% set ns = namespace(x=%s) %%}{%% for i in range(60) %%}{%% set ns.x = %s %%}{%% endfor %%}%s"

ENDLESS = [
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
    "{% for i in range(99999) recursive %}{% if loop.depth < 4 %}{{ loop(range(99999)) }}{% endif %}{% endfor %}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    DOUBLING % ("'a'", "ns.x ~ ns.x", "{{ ns.x }}"),
    DOUBLING % ("'a'", "ns.x + ns.x", "{{ ns.x }}"),
    DOUBLING % ("'a'", "'%s%s' % (ns.x, ns.x)", "{{ ns.x }}"),
    DOUBLING % ("'a'", "'{0}{0}'.format(ns.x)", "{{ ns.x }}"),
    DOUBLING % ("'a'", "[ns.x, ns.x]|join", "{{ ns.x }}"),
    DOUBLING % ("[1]", "[ns.x, ns.x]", "{{ ns.x }}"),
    DOUBLING % ("[1]", "ns.x + ns.x", "{{ ns }}"),
    DOUBLING % ("(1,)", "(ns.x, ns.x)", "{{ {ns.x: 1} }}"),
    DOUBLING % ("3", "ns.x * ns.x", "{{ ns.x }}"),
    "{% set x %}" + "x" * 1000 + "{% endset %}{% for i in range(99999) %}{{ x }}{% endfor %}",
    "{% for i in range(99999) %}" + "x" * 1000 + "{% endfor %}",
    "{{ 'a' * 10 ** 10 }}",
    "{{ [1] * 10 ** 9 }}",
    "{{ 10 ** (10 ** 10) }}",
    "{{ 'a'|center(10 ** 9) }}",
    "{{ 'a'.ljust(10 ** 9) }}",
    "{{ '%999999999d' % 1 }}",
    "{{ '%*d' % (10 ** 9, 1) }}",
    "{{ '{:>999999999}'.format(1) }}",
    "{{ '{:>{}}'.format(1, 10 ** 9) }}",
    "{{ ('a' * 99999)|replace('a', 'b' * 99999) }}",
    "{{ ('a' * 99999).replace('a', 'b' * 99999) }}",
    "{{ (['a' * 9999] * 9999)|join }}",
    "{{ messages|tojson(indent=10 ** 8) }}",
]


@pytest.mark.parametrize("text", ENDLESS)
def test_a_template_without_end_is_refused(text: str):
    with pytest.raises(TemplateError, match="loops or grows without end"):
        ChatTemplate(text, {}, None).render(MESSAGES)


@pytest.mark.parametrize("variables", [{}, {"tools": [{"name": "look", "of": {"a": [1, "b"]}}], "thinking": True}])
def test_a_budget_is_that_of_all_that_is_given_though_each_message_is_counted_once(variables: dict):
    work = Work()
    for many in (1, 2, 2, 1):
        given = MESSAGES[:many]
        work.begin(given, variables)
        assert work.left == ALLOWED + size([given, variables] if variables else given, limit=1 << 40)


def test_sizes_are_kept_of_a_bounded_number_of_messages():
    work = Work()
    for turn in range(3000):
        messages = [{"role": "user", "content": "x" * turn}]
        work.begin(messages, {})
        assert work.left == ALLOWED + size(messages, limit=1 << 40)


@pytest.mark.parametrize(
    "text",
    [
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "{% macro f(n) %}{{ f(n - 1) }}{% endmacro %}{{ f(1) }}",
        "{{ 1e400 }}",
        "{{ lipsum() }}",
    ],
)
def test_what_jinja_itself_refuses_is_refused(text: str):
    with pytest.raises((Refused, TemplateError)):
        ChatTemplate(text, {}, None).render(MESSAGES)


@pytest.mark.parametrize(
    "text",
    [
        "{{ " + "(" * 900 + "1" + ")" * 900 + " }}",
        "{% for i in x %}" * 30 + "{% endfor %}" * 30,
        "{{ " + "9" * 5000 + " }}",
        "{% macro f(a, a) %}{% endmacro %}",
        "{{ [1, 2]|random }}",
        "{% for %}",
    ],
    ids=lambda text: text[:20],
)
def test_a_template_that_cannot_be_compiled_is_one_sentence(text: str):
    with pytest.raises(TemplateError, match=r"cannot be compiled|not valid jinja") as caught:
        ChatTemplate(text, {}, None)
    assert "\n" not in str(caught.value)


def test_a_long_conversation_is_no_endless_loop():
    talk = [{"role": "user", "content": "a question of some words"}] * 20_000
    text = (
        "{% for m in messages %}{{ m.role ~ ': ' + m['content']|trim }}{% if not loop.last %};{% endif %}{% endfor %}"
    )
    assert ChatTemplate(text, {}, None).render(talk).count(";") == 19_999
    long = [{"role": "user", "content": "x" * 9_000_000}]
    assert len(ChatTemplate(text, {}, None).render(long)) > 9_000_000
    assert len(text) * 20_000 > ALLOWED


@pytest.mark.parametrize("content", ["{20261130123456} 100%", "99999999999999999999 %d {"])
def test_numbers_in_a_content_are_no_widths(content: str):
    text = "{% for m in messages %}{{ m.content if not m.content.startswith('<tool_response>') }}{% endfor %}"
    assert ChatTemplate(text, {}, None).render([{"role": "user", "content": content}]) == content


ORDINARY = [
    "{% for m in messages %}{{ m.role ~ '\n' ~ m['content'] ~ 1 ~ none }}{{ loop.index0 }}{% endfor %}",
    "{% for m in messages if m.role == 'user' %}{{ loop.last }}{{ m }}{% else %}none{% endfor %}",
    "{% for k, v in messages[0].items()|sort %}{{ k, v }}{% endfor %}{{ (1, 2)[0] }}{{ {'a': [1]}['a'] }}",
    "{% for m in messages|selectattr('role', 'equalto', 'user') %}{{ m.content }}{{ loop.previtem }}{% endfor %}",
    "{% for i in [1, 2] recursive %}{{ i }}{% if loop.depth < 3 %}{{ loop([7, 8]) }}{% endif %}{% endfor %}",
    "{% macro m(x) %}<{{ x }}|{{ caller('y') if caller }}>{% endmacro %}{% call(y) m(2) %}{{ y }}{% endcall %}",
    "{% set ns = namespace(found=false) %}{% for m in messages %}{% set ns.found = true %}{% endfor %}{{ ns.found }}",
    "{{ messages|map(attribute='role')|join(', ') }}{{ messages|groupby('role')|map('first')|list }}",
    "{{ 'a' in 'abc' and 1 < 2 <= 2 }}{{ 2 ** 8 * 3 + 1 % 5 }}{{ 'ab' * 3 }}{{ [1] * 2 + [3] }}",
    "{{ '%s-%05d' % ('x', 3) }}{{ '{:>5}{a}'.format(1, a=2) }}{{ '{a}'.format_map({'a': 1}) }}{{ '%d' % 5 }}",
    "{{ messages|length is divisibleby 2 }}{{ messages[0]['content'] | upper | trim | replace('H', 'J') }}",
    "{% filter upper %}abc{% endfilter %}{% set x %}b{{ 1 }}{% endset %}{{ x ~ x }}{{ x|wordwrap(1) }}",
    "{{ 'a,b'.split(',')[-1] }}{{ ' x '.strip() }}{{ messages[1:]|list }}{{ messages[::-1] }}",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_counting_changes_nothing_of_what_is_printed(text: str):
    plain = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(text)
    assert ChatTemplate(text, {}, None).render(MESSAGES) == plain.render(messages=MESSAGES)


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[1] / "plugins/chat_templates").glob("*")), ids=lambda p: p.name
)
def test_templates_of_models_print_what_they_print_in_plain_jinja(path: Path):
    text = path.read_text(encoding="utf-8")
    plain = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    plain.globals["raise_exception"] = lambda message: (_ for _ in ()).throw(jinja2.TemplateError(message))
    plain.globals["strftime_now"] = lambda form: "2024"
    names = {"bos_token": "<s>", "eos_token": "</s>", "date_string": "today", "tools": None, "documents": None}
    expected = plain.from_string(text).render(messages=MESSAGES, add_generation_prompt=True, **names)
    assert ChatTemplate(text, names, None).render(MESSAGES, generation_prompt=True) == expected
