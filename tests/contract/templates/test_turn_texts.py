"""Trained turns as text: prompt and answer as inference would see them, or the reason why a row is unfit."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from orca_recipes.contract.encoder import Vocabulary
from orca_recipes.contract.templates.chat_template import ChatTemplate
from orca_recipes.contract.templates.dialogues import Dialogue, Unfit
from orca_recipes.contract.templates.template_ends import rendering_of
from orca_recipes.contract.templates.turn_texts import TurnText, TurnWriter

QWEN3 = (
    "{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}"
    "{% endif %}{% endfor %}{% for m in messages %}{% if m.role == 'assistant' %}{% set c = m.content %}"
    "{% set r = m.reasoning_content or '' %}{% if '</think>' in c %}"
    "{% set r = c.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set c = c.split('</think>')[-1].lstrip('\n') %}{% endif %}{{ '<|im_start|>assistant\n' }}"
    "{% if loop.index0 > ns.last and (loop.last or r) %}{{ '<think>\n' + r + '\n</think>\n\n' }}{% endif %}"
    "{{ c + '<|im_end|>\n' }}{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{% endif %}"
)
"""In the manner of Qwen3: thoughts stand in the turns after the last question alone."""
SAY = "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
CHATML = "{% for m in messages %}" + SAY + "{% endfor %}" + ASK
R1 = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|A|>' + m.content.split('</think>')[-1] + '<|end|>' }}"
    "{% else %}{{ '<|U|>' + m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|A|><think>\n' }}"
    "{% endif %}"
)
CALLS = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content }}"
    "{% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}"
    "{{ '<|call|>' if m.tool_calls else '<|im_end|>' }}\n{% endfor %}" + ASK
)
HARMONY = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}{% if m.role != 'assistant' %}"
    "{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{% elif m.tool_calls %}"
    "{% set later = messages[loop.index:] | selectattr('role', 'equalto', 'assistant') | list %}"
    "{% if not later | rejectattr('tool_calls') | list and (m.thinking or m.content) %}"
    "{{ '<|start|>assistant<|channel|>analysis<|message|>' + (m.thinking or m.content) + '<|end|>' }}{% endif %}"
    "{{ '<|start|>assistant to=' + m.tool_calls[0].function.name + '<|message|>' }}"
    "{{ m.tool_calls[0].function.arguments | tojson }}{{ '<|call|>' }}{% else %}"
    "{% if loop.last and m.thinking %}"
    "{{ '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}{% endif %}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' + m.content + ('<|return|>' if loop.last else '<|end|>') }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
"""In the manner of gpt-oss: what was thought before a call is dropped as soon as an answer follows."""
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"zz": "last first", "aa": "b"}}}]
CALL = [{"id": "a", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Oslo"}}}]
CONTROL = ("<|im_start|>", "<|im_end|>", "<|A|>", "<|U|>", "<|end|>", "<|call|>", "</s>")
HARMONIOUS = ("<|start|>", "<|message|>", "<|channel|>", "<|end|>", "<|call|>", "<|return|>", "</s>")


def writer(template: str, *, control: Sequence[str] = CONTROL, **options: Any) -> TurnWriter:
    vocabulary = Vocabulary(
        size=100,
        control={text: place for place, text in enumerate(control)},
        other_added={},
        eats_space=frozenset(),
        bos=None,
        eos="</s>",
        pad=None,
        chat_template=template,
    )
    made = ChatTemplate(template, {"eos_token": "</s>"}, None)
    return TurnWriter(made, rendering_of(made, vocabulary, **options), control, None)


def talk(*turns: str) -> list[dict[str, Any]]:
    told = [dict(zip(("role", "content"), turn.split(": ", 1), strict=True)) for turn in turns]
    return [{**message, "trained": message["role"] == "assistant"} for message in told]


def turns(
    template: str, messages: Sequence[dict[str, Any]], tools: Sequence[Any] = (), **options: Any
) -> list[TurnText]:
    is_cut = options.pop("is_cut", False)
    return writer(template, **options).turns(Dialogue(messages, tools, is_cut=is_cut))


def reason(template: str, messages: Sequence[dict[str, Any]], tools: Sequence[Any] = (), **options: Any) -> str:
    with pytest.raises(Unfit) as caught:
        turns(template, messages, tools, **options)
    return str(caught.value)


def answers(found: Sequence[TurnText]) -> list[str]:
    return [turn.answer for turn in found]


def test_prompts_are_those_of_transformers_and_answers_what_it_prints_beyond_them() -> None:
    load: Any = PreTrainedTokenizerFast
    inference = load(tokenizer_object=Tokenizer(models.BPE()), eos_token="</s>")
    inference.chat_template = QWEN3
    messages = talk("system: Be brief.", "user: One?", "assistant: 1", "user: Two?", "assistant: 2")
    messages[2]["reasoning"] = messages[4]["reasoning"] = "I count."
    keys = ("role", "content", "reasoning_content")
    plain = [dict(zip(keys, (m["role"], m["content"], m.get("reasoning", "")), strict=True)) for m in messages]
    for turn in turns(QWEN3, messages):
        prompt = inference.apply_chat_template(plain[: turn.place], tokenize=False, add_generation_prompt=True)
        whole = inference.apply_chat_template(plain[: turn.place + 1], tokenize=False)
        assert turn.prompt == prompt
        assert whole == turn.prompt + turn.answer + "\n"


def test_thoughts_of_earlier_turns_stand_where_inference_has_them() -> None:
    messages = talk("user: One?", "assistant: 1", "user: Two?", "assistant: 2")
    messages[1]["reasoning"] = messages[3]["reasoning"] = "I count."
    first, second = turns(QWEN3, messages)
    assert first.answer == "<think>\nI count.\n</think>\n\n1<|im_end|>"
    assert "I count." not in second.prompt
    assert [first.number, second.number] == [1, 2]


def test_an_empty_thought_stands_in_the_prompt_or_the_row_is_rejected() -> None:
    (turn,) = turns(QWEN3, talk("user: One?", "assistant: 1"))
    assert turn.prompt.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert turn.answer == "1<|im_end|>"
    assert "reasoning: it has none" in reason(QWEN3, talk("user: One?", "assistant: 1"), empty_thought="reject")


def test_where_the_prompt_begins_a_thought_the_answer_goes_on_with_it() -> None:
    messages = talk("user: One?", "assistant: 1")
    messages[1]["reasoning"] = "I count."
    (turn,) = turns(R1, messages)
    assert (turn.prompt, turn.answer) == ("<|U|>One?<|A|><think>\n", "I count.\n</think>\n\n1<|end|>")
    inline = talk("user: One?", "assistant: <think>\nI count.\n</think>\n\n1")
    assert turns(R1, inline)[0].answer == "I count.\n</think>\n\n1<|end|>"
    (bare,) = turns(R1, talk("user: One?", "assistant: 1"))
    assert (bare.prompt, bare.answer) == ("<|U|>One?<|A|><think>\n\n</think>\n\n", "1<|end|>")


def test_a_thought_takes_the_place_of_the_empty_one_that_history_has() -> None:
    closed = "{{ '<think></think>' if not thinking else '<think>' }}"
    template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|A|><think></think>' }}"
        "{{ m.content.split('</think>')[-1] + '<|end|>' }}{% else %}{{ '<|U|>' + m.content }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|A|>" + closed + "{% endif %}"
    )
    messages = talk("user: One?", "assistant: 1")
    messages[1]["reasoning"] = "I count."
    assert (
        reason(template, messages) == "reasoning: the chat template's prompt closes the thought that the answer brings"
    )
    (turn,) = writer(template).turns(Dialogue(messages, variables={"thinking": True}))
    assert (turn.prompt, turn.answer) == ("<|U|>One?<|A|><think>", "I count.</think>1<|end|>")
    (bare,) = writer(template).turns(Dialogue(talk("user: One?", "assistant: 1"), variables={"thinking": True}))
    assert (bare.prompt, bare.answer) == ("<|U|>One?<|A|><think></think>", "1<|end|>")


@pytest.mark.parametrize("said", ["", "Think first. "])
def test_an_answer_without_a_thought_stands_behind_the_templates_own_prompt_for_that(said: str) -> None:
    template = (
        "{% set think = enable_thinking is not defined or enable_thinking %}{{ said if think else '' }}"
        "{% for m in messages %}{% if m.role == 'assistant' %}<|A|></think>\n{{ m.content + '<|end|>' }}"
        "{% else %}{{ '<|U|>' + m.content }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|A|><think>' if think else '<|A|></think>' }}{% endif %}"
    ).replace("said", repr(said))
    (turn,) = turns(template, talk("user: One?", "assistant: 1"))
    assert (turn.prompt, turn.answer) == ("<|U|>One?<|A|></think>", "\n1<|end|>")
    assert "it has none" in reason(template, talk("user: One?", "assistant: 1"), empty_thought="reject")


def test_a_thought_in_a_content_that_is_printed_behind_an_empty_one_is_given_under_its_key() -> None:
    template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
        "{{ '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' }}{% endif %}"
        "{{ m.content + '<|im_end|>\n' }}{% endfor %}" + ASK
    )
    (turn,) = turns(template, talk("user: One?", "assistant: <think>\nI count.\n</think>\n\n1"))
    assert turn.answer == "<think>\nI count.\n</think>\n\n1<|im_end|>"


def test_a_call_is_given_no_content_where_its_template_prints_an_answer_for_an_empty_one() -> None:
    template = (
        "{{ tools[0].function.name if tools }}{% for m in messages %}{% if m.tool_calls %}"
        "{{ '<|A|>' + m.tool_calls[0].function | tojson + '<|end|>' }}{% endif %}"
        "{% if m.role == 'assistant' and m.content is not none %}{{ '<|A|>' + m.content + '<|end|>' }}"
        "{% elif m.role != 'assistant' %}{{ '<|U|>' + m.content }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|A|>{% endif %}"
    )
    messages = talk("user: Weather?", "assistant: ", "tool: 4 C", "assistant: It is 4 C.")
    messages[1]["tool_calls"] = json.dumps(CALL)
    call, answer = turns(template, messages, TOOLS)
    assert call.answer == '{"name": "get_weather", "arguments": {"city": "Oslo"}}<|end|>'
    assert answer.prompt.endswith(f"<|A|>{call.answer}<|U|>4 C<|A|>")


def test_an_end_that_is_nowhere_printed_is_put_behind_each_answer() -> None:
    bare = "{% for m in messages %}{{ '<|U|>' if m.role == 'user' else '<|A|>' }}{{ m.content }}{% endfor %}"
    bare += "{% if add_generation_prompt %}<|A|>{% endif %}"
    messages = talk("user: One?", "assistant: 1", "user: Two?", "assistant: 2")
    assert answers(turns(bare, messages)) == ["1</s>", "2</s>"]
    first, second = turns(bare, messages, terminator="<|U|>")
    assert second.prompt.startswith(first.prompt + first.answer)
    assert answers(turns(bare, messages, is_cut=True)) == ["1</s>", "2"]


def test_a_call_is_trained_with_its_own_end_and_tools_keep_the_order_of_their_keys() -> None:
    messages = talk("user: Weather?", "assistant: ", "tool: 4 C", "assistant: It is 4 C.")
    messages[1]["tool_calls"] = json.dumps(CALL)
    call, answer = turns(CALLS, messages, TOOLS)
    assert call.answer == '{"name": "get_weather", "arguments": {"city": "Oslo"}}<|call|>'
    assert '{"zz": "last first", "aa": "b"}' in call.prompt
    assert answer.answer == "It is 4 C.<|im_end|>"


def test_a_turn_costs_two_renderings_and_tools_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = talk("user: Weather?", "assistant: ", "tool: 4 C", "assistant: It is 4 C.")
    messages[1]["tool_calls"] = json.dumps(CALL)
    made, counted = writer(CALLS), []
    made.turns(Dialogue(messages, TOOLS))
    render = ChatTemplate.render
    monkeypatch.setattr(ChatTemplate, "render", lambda self, *a, **k: (counted.append(1), render(self, *a, **k))[1])
    assert len(made.turns(Dialogue(messages, TOOLS))) == 2
    assert len(counted) == 2 * 2 + 1


@pytest.mark.parametrize("key", ["reasoning", "content"])
def test_an_answer_stands_behind_the_thought_of_a_call_that_history_drops(key: str) -> None:
    messages = talk("system: Be brief.", "user: Weather?", "assistant: ", "tool: 4 C", "assistant: It is 4 C.")
    messages[2] |= {key: "I look.", "tool_calls": json.dumps(CALL)}
    messages[4]["reasoning"] = "It says 4."
    call, answer = turns(HARMONY, messages, TOOLS, control=HARMONIOUS)
    thought = "<|channel|>analysis<|message|>I look.<|end|>"
    assert call.answer == thought + '<|start|>assistant to=get_weather<|message|>{"city": "Oslo"}<|call|>'
    assert answer.prompt == call.prompt + call.answer + "<|start|>tool<|message|>4 C<|end|><|start|>assistant"
    said = "<|start|>assistant<|channel|>final<|message|>It is 4 C.<|return|>"
    assert answer.answer == "<|channel|>analysis<|message|>It says 4.<|end|>" + said
    more = [*messages, *talk("user: Thanks?", "assistant: Welcome.")]
    *before, last = turns(HARMONY, more, TOOLS, control=HARMONIOUS)
    assert before == [call, answer]
    assert "I look." not in last.prompt


def test_an_answer_stands_behind_a_system_message_that_moves_to_the_last_question() -> None:
    moving = (
        "{% for m in messages if m.role != 'system' %}{{ '<|U|>' if m.role == 'user' else '<|A|>' }}"
        "{% if loop.last and m.role == 'user' and messages[0].role == 'system' %}{{ messages[0].content + '\n' }}"
        "{% endif %}{{ m.content }}"
        "{{ '<|end|>' if m.role == 'assistant' }}{% endfor %}{% if add_generation_prompt %}<|A|>{% endif %}"
    )
    messages = talk("system: Be brief.", "user: One?", "assistant: 1", "user: Two?", "assistant: 2")
    first, second = turns(moving, messages)
    assert (first.prompt, first.answer) == ("<|U|>Be brief.\nOne?<|A|>", "1<|end|>")
    assert (second.prompt, second.answer) == ("<|U|>One?<|A|>1<|end|><|U|>Be brief.\nTwo?<|A|>", "2<|end|>")


def test_a_thought_follows_the_white_space_that_its_own_prompt_prints() -> None:
    spaced = QWEN3.replace("{% if enable_thinking", "{{ '<think>\n\n' }}{% if enable_thinking")
    messages = talk("user: One?", "assistant: 1")
    messages[1]["reasoning"] = "I count."
    (turn,) = turns(spaced, messages)
    assert turn.prompt.endswith("assistant\n<think>\n\n")
    assert turn.answer == "I count.\n</think>\n\n1<|im_end|>"


def test_whatever_a_template_leaves_out_is_named() -> None:
    messages = talk("user: Weather?", "assistant: I look.", "tool: 4 C", "assistant: It is 4 C.")
    called = [messages[0], {**messages[1], "tool_calls": json.dumps(CALL)}, *messages[2:]]
    few = CALLS.replace("c.function | tojson", "c.function.name")
    assert reason(few, called) == "tool_calls: the chat template does not print all of a call"
    upper = CHATML.replace("m.content", "(m.content if m.role != 'user' else 'x')")
    assert reason(upper, messages) == "the chat template does not print a message of role user word for word"


def test_an_answer_that_begins_a_conversation_stands_behind_the_prompt_of_no_messages_or_says_what_to_do() -> None:
    messages = talk("assistant: How may I help?", "user: One?", "assistant: 1")
    first, second = turns(R1, messages)
    assert (first.prompt, first.answer) == ("<|A|><think>\n\n</think>\n\n", "How may I help?<|end|>")
    assert second.prompt.startswith("<|A|>How may I help?<|end|><|U|>One?<|A|>")
    looking = "{{ messages[0].role }}" + CHATML
    said = reason(looking, messages)
    assert said.endswith("for an answer that begins a conversation; mark such answers with weight = 0")
    (only,) = turns(looking, [{**messages[0], "trained": False}, *messages[1:]])
    assert only.answer == "1<|im_end|>"


def test_a_thought_that_is_printed_of_calls_alone_is_named_where_it_is_lost() -> None:
    """In the manner of Gemma 4's."""
    template = CALLS.replace("+ m.content", "+ (m.thinking if m.thinking and m.tool_calls else '') + m.content")
    messages = talk("user: One?", "assistant: 1")
    messages[1]["reasoning"] = "I count."
    said = "reasoning: the chat template prints none of such an answer; use another one, or name the key in ignore_keys"
    assert reason(template, messages) == said


def test_an_end_of_the_prompt_that_no_history_has_is_quoted() -> None:
    steps = CHATML.replace("assistant\n{% endif %}", "assistant\nHere are my steps:\n{% endif %}")
    said = "the chat template prints the answer otherwise than after its own prompt, which ends in"
    assert reason(steps, talk("user: One?", "assistant: 1")) == f'{said} "Here are my steps:\\n"'


@pytest.mark.parametrize("name", ["messages", "tools", "add_generation_prompt", "self"])
def test_what_a_template_is_given_by_its_caller_is_no_variable_of_a_row(name: str) -> None:
    dialogue = Dialogue(talk("user: One?", "assistant: 1"), variables={"thinking": True, name: [1]})
    with pytest.raises(Unfit, match=f"^chat_template_kwargs: {name} is no variable that a row may set$"):
        writer(CHATML).turns(dialogue)


def test_no_text_of_a_row_becomes_a_control_token() -> None:
    messages = talk("user: Say <|im_end|>.", "assistant: No.")
    assert reason(CHATML, messages) == "content: it holds the text of the control token <|im_end|>"
    called = talk("user: Weather?", "assistant: ")
    called[1]["tool_calls"] = json.dumps(CALL).replace("Oslo", "<|call|>")
    assert reason(CALLS, called, TOOLS) == "tool_calls: it holds the text of the control token <|call|>"
    assert "tools: it holds the text" in reason(CALLS, talk("user: a", "assistant: b"), [{"name": "<|A|>"}])


def test_thought_marks_that_are_control_tokens_are_the_templates_own() -> None:
    inline = talk("user: One?", "assistant: <think>\nI count.\n</think>\n\n1")
    (turn,) = turns(QWEN3, inline, control=(*CONTROL, "<think>", "</think>"))
    assert turn.answer == "<think>\nI count.\n</think>\n\n1<|im_end|>"


@pytest.mark.parametrize(
    ("content", "said"),
    [("<think>never ends", "content: a thought begins and never ends"), (" ", "its answer is empty")],
)
def test_an_answer_that_teaches_nothing_good_is_named(content: str, said: str) -> None:
    messages = [*talk("user: One?"), {"role": "assistant", "content": content, "trained": True}]
    assert reason(QWEN3, messages) == said


def test_a_template_that_raises_or_loops_is_quoted() -> None:
    raising = CHATML.replace(
        "{% for m", "{% if messages|length > 3 %}{{ raise_exception('too long') }}{% endif %}{% for m"
    )
    long = talk("user: One?", "assistant: 1", "user: Two?", "assistant: 2")
    assert reason(raising, long) == "the chat template refuses it (too long)"
    looping = (
        CHATML + "{% if 'spin' in messages[0].content %}{% for i in range(99999) %}{% for j in range(9) %}{% endfor %}"
    )
    looping += "{% endfor %}{% endif %}"
    assert "loops or grows without end" in reason(looping, talk("user: spin", "assistant: 1"))


def test_the_last_exchange_alone_is_trained_where_the_recipe_says_so() -> None:
    messages = talk("user: One?", "assistant: 1", "user: Two?", "assistant: 2")
    assert answers(turns(CHATML, messages, history="last")) == ["2<|im_end|>"]


@pytest.mark.parametrize(
    "content",
    [
        "Sure. <think>hm</think> Yes.",
        "<think>a</think> One. <think>b</think> Two.",
        "<think>a</think> It is closed by </think> alone.",
    ],
)
@pytest.mark.parametrize("template", [QWEN3, R1])
def test_words_that_a_template_takes_out_of_an_answer_are_never_lost(template: str, content: str) -> None:
    said = "the chat template does not print the answer's content word for word"
    assert reason(template, talk("user: One?", f"assistant: {content}")) == said


def test_each_call_of_an_answer_is_printed() -> None:
    first = CALLS.replace("m.tool_calls or []", "(m.tool_calls or [])[:1]")
    called = [{"type": "function", "function": {"name": "add", "arguments": {"x": number}}} for number in (1, 2)]
    messages = [*talk("user: Add."), {**talk("assistant: ")[0], "tool_calls": json.dumps(called)}]
    assert reason(first, messages) == "tool_calls: the chat template does not print all of them"
    assert answers(turns(CALLS, messages))[0].count('"x"') == 2


def agent(*replies: dict[str, Any]) -> list[dict[str, Any]]:
    call = {"role": "assistant", "content": "", "tool_calls": json.dumps(CALL), "trained": True}
    return [*talk("user: Weather?"), call, *({"role": "tool", "content": "4 C", **one} for one in replies)]


@pytest.mark.parametrize(
    ("replies", "said"),
    [
        ([{"tool_call_id": "b"}], "tool_call_id: a tool answers a call that no message before it makes"),
        ([{}, {}], "role tool: a tool answers, and every call before it has its answer"),
    ],
)
def test_a_reply_without_a_call_is_refused(replies: list[dict[str, Any]], said: str) -> None:
    assert reason(CALLS, [*agent(*replies), *talk("assistant: It is 4 C.")], TOOLS) == said


@pytest.mark.parametrize("replies", [[{}], [{"tool_call_id": "a"}], [{"tool_call_id": "a"}, {"tool_call_id": "a"}]])
def test_a_reply_without_an_id_answers_the_next_call_and_one_call_may_have_several(
    replies: list[dict[str, Any]],
) -> None:
    found = turns(CALLS, [*agent(*replies), *talk("assistant: It is 4 C.")], TOOLS)
    assert [turn.place for turn in found] == [1, 2 + len(replies)]


def test_calls_without_ids_are_answered_in_their_order() -> None:
    bare = json.dumps([{key: value for key, value in CALL[0].items() if key != "id"}] * 2)
    messages = [*agent({}, {}), *talk("assistant: It is 4 C.")]
    messages[1]["tool_calls"] = bare
    assert [turn.place for turn in turns(CALLS, messages, TOOLS)] == [1, 4]
    messages.insert(4, {"role": "tool", "content": "5 C"})
    assert reason(CALLS, messages, TOOLS).startswith("role tool: a tool answers")


def test_thoughts_between_words_are_told_apart_where_a_template_prints_them_as_they_stand() -> None:
    messages = talk("user: One?", "assistant: <think>a</think> first <think>b</think>\n<think>c</think> then")
    (turn,) = turns(CHATML, messages)
    assert [(span.part, turn.answer[span.begin : span.stop]) for span in turn.parts] == [
        ("reasoning", "<think>a</think>"),
        ("content", " first "),
        ("reasoning", "<think>b</think>"),
        ("reasoning", "\n<think>c</think>"),
        ("content", " then<|im_end|>"),
    ]


def test_thoughts_between_words_that_a_template_prints_otherwise_are_named_as_such() -> None:
    kept = CHATML.replace("m.content", "m.content.replace('</think>', '</think>\n')")
    messages = talk("user: One?", "assistant: <think>a</think> first <think>b</think> then")
    said = "content: it holds several thoughts, which the chat template prints otherwise"
    assert reason(kept, messages) == said


def test_a_prompt_that_history_prints_with_other_white_space_is_followed_by_the_answer() -> None:
    """In the manner of Llama 4's in vLLM: a last message is closed by a line of its own."""
    lines = (
        "{% for m in messages %}{{ ('<|A|>' if m.role == 'assistant' else '<|U|>') + '\n\n' + m.content }}"
        "{{ '\n<|end|>' if loop.last else '<|end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '\n<|A|>\n\n' }}"
        "{% endif %}"
    )
    messages = talk("user: One?", "assistant: 1", "user: Two?", "assistant: 2")
    told = [(turn.prompt, turn.answer) for turn in turns(lines, messages)]
    assert told == [
        ("<|U|>\n\nOne?\n<|end|>\n<|A|>\n\n", "1\n<|end|>"),
        ("<|U|>\n\nOne?<|end|><|A|>\n\n1<|end|><|U|>\n\nTwo?\n<|end|>\n<|A|>\n\n", "2\n<|end|>"),
    ]


def test_words_of_a_prompt_that_an_answer_begins_with_are_not_taken_from_it() -> None:
    colon = (
        "{% for m in messages %}{{ '<|A|> ' + m.content + '<|end|>' }}{% endfor %}{% if add_generation_prompt %}<|A|>:"
    )
    colon += "{% endif %}"
    assert reason(colon, talk("user: One?", "assistant: : 1")).startswith("the chat template does not print")
