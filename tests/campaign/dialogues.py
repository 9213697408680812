"""Dialogues of one to six turns, with and without system message, tools, reasoning and think marks in contents."""

from collections.abc import Iterator
from typing import Any

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Tell the weather of a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": "its name"}},
                "required": ["city"],
            },
        },
    }
]
_WORDS = (
    "How are you?",
    "2 + 2?",
    "Say it\nin two lines",
    "Und auf Deutsch: grüß Gott",
    "  spaces around  ",
    "x < y > z",
)
_ANSWERS = ("Fine.", "4", "One\ntwo", "Grüß Gott!", "No  spaces.", "`y` lies between.")


def dialogues() -> Iterator[dict[str, Any]]:
    """Rows as `WholeRows` reads them."""
    for turns in range(1, 7):
        for system in (False, True):
            for thoughts in ("none", "all", "some", "in content"):
                yield {"messages": [*_system(system), *_talk(turns, thoughts)]}
            yield {"messages": [*_system(system), *_talk(turns, "none")], "tools": TOOLS}
            for thinks in (False, True):
                yield {"messages": [*_system(system), *_with_calls(turns, thinks=thinks)], "tools": TOOLS}


def _system(there: bool) -> list[dict[str, Any]]:
    return [{"role": "system", "content": "Be brief."}] if there else []


def _talk(turns: int, thoughts: str) -> Iterator[dict[str, Any]]:
    for turn in range(turns):
        yield {"role": "user", "content": _WORDS[turn]}
        answer = {"role": "assistant", "content": _ANSWERS[turn]}
        thought = f"They ask number {turn}.\nI answer."
        if thoughts == "in content":
            answer["content"] = f"<think>\n{thought}\n</think>\n\n{_ANSWERS[turn]}"
        elif thoughts == "all" or (thoughts == "some" and turn % 2 == 0):
            answer["reasoning_content"] = thought
        yield answer


def _with_calls(turns: int, *, thinks: bool) -> Iterator[dict[str, Any]]:
    for turn in range(turns):
        call = {"name": "get_weather", "arguments": {"city": ("Oslo", "Bergen")[turn % 2]}}
        name = f"call0000{turn}"
        yield {"role": "user", "content": f"Weather of city {turn}?"}
        yield {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": name, "type": "function", "function": call}],
            **({"reasoning_content": f"I look for number {turn}."} if thinks else {}),
        }
        yield {"role": "tool", "content": f"{turn} C", "tool_call_id": name, "name": "get_weather"}
        thought = {"reasoning_content": f"They say {turn}."} if thinks else {}
        yield {"role": "assistant", "content": f"It is {turn} C.", **thought}
