"""Write the small data that the papers' recipes build from with `--profile sample`.

    python -m orca_plugins.sources.generate_samples --out recipes/samples

Every text is put together from the words and sentences of generate_samples_texts.toml, so nothing of any data set is in
it. The layouts are those of the data that a recipe names: Natural Instructions' task files, FLAN's CoT table, rows of
OpenOrca, conversations. Two runs write the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

_ITEMS_OF_A_FAMILY = 60
_CONVERSATIONS = 60
_VISITS = 40

_LAYOUTS = {"cot": 0, "niv2": 1, "flan2021": 2, "t0": 3, "openorca": 4, "math": 5, "chat": 6}
"""Which items a layout gets: the numbers from 1,000 times its own, so that no two layouts hold one question."""


@dataclass(frozen=True)
class Item:
    """One question of a family, with its answer and the way to it."""

    family: str
    number: int
    category: str
    definition: str
    question: str
    rationale: str
    answer: str
    options: Sequence[str]


class Draw:
    """Draws for one item, decided by its name alone."""

    def __init__(self, name: str) -> None:
        self._name, self._drawn = name, 0

    def below(self, bound: int) -> int:
        """Draw an integer in [0, bound)."""
        self._drawn += 1
        digest = hashlib.blake2b(f"{self._name}/{self._drawn}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") * bound >> 64

    def between(self, low: int, high: int) -> int:
        """Draw an integer in [low, high]."""
        return low + self.below(high - low + 1)

    def one(self, values: Sequence[str]) -> str:
        """Draw one of the values."""
        return values[self.below(len(values))]

    def some(self, values: Sequence[str], count: int) -> list[str]:
        """Draw `count` different values, in the order drawn."""
        left = list(values)
        return [left.pop(self.below(len(left))) for _ in range(count)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns: the exit status: 0, or 2 with a sentence for a mistake."""
    parser = argparse.ArgumentParser(prog="python -m orca_plugins.sources.generate_samples", description=__doc__)
    parser.add_argument("--out", required=True, type=Path, help="folder to write into")
    folder = parser.parse_args(arguments).out
    try:
        for name, content in sample_files().items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    except OSError as error:
        print(f"generate_samples: {error}", file=sys.stderr)
        return 2
    return 0


def sample_files() -> dict[str, bytes]:
    """Make every file of the sample, by its path inside the folder."""
    texts = _texts()
    tables = {
        "cot.tsv.gz": "".join(f"{item.question}\t{item.answer}\t{item.rationale}\n" for item in _items(texts, "cot")),
        "flan2021.jsonl.gz": _lines(map(_flan2021, _items(texts, "flan2021"))),
        "t0.jsonl.gz": _lines(_t0(texts)),
        "openorca.jsonl.gz": _lines(_openorca(texts)),
        "math.jsonl.gz": _lines(map(_math, _items(texts, "math", of={"shopping", "sharing"}))),
        "chat.jsonl.gz": _lines(_chats(texts)),
        "doctor_patient.jsonl.gz": _lines(_visits(texts)),
    }
    # Without a time in the header, so that two runs write the same bytes.
    compressed = {name: gzip.compress(text.encode(), compresslevel=9, mtime=0) for name, text in tables.items()}
    return {**compressed, **_task_files(texts)}


def _task_files(texts: Mapping[str, Any]) -> dict[str, bytes]:
    """Lay out files as Natural Instructions does: one a task, with definition, examples and instances."""
    found: dict[str, list[Item]] = {}
    for item in _items(texts, "niv2"):
        found.setdefault(item.family, []).append(item)
    files = {}
    for number, (family, items) in enumerate(found.items(), start=1):
        name = f"sample{number:03d}_{family}_{items[0].category.lower()}"
        shown, rest = items[:2], items[2:]
        task = {
            "Categories": [items[0].category],
            "Reasoning": [],
            "Definition": [items[0].definition],
            "Input_language": ["English"],
            "Positive Examples": [
                {"input": item.question, "output": item.answer, "explanation": item.rationale} for item in shown
            ],
            "Negative Examples": [],
            "Instances": [
                {"id": f"{name}-{item.number}", "input": item.question, "output": [item.answer]} for item in rest
            ],
            "Instance License": ["Apache-2.0"],
        }
        files[f"niv2/tasks/{name}.json"] = (json.dumps(task, indent=1, ensure_ascii=False) + "\n").encode()
    return files


def _flan2021(item: Item) -> dict[str, Any]:
    listed = "".join(f"\n- {option}" for option in item.options)
    question = f"{item.definition}\n{item.question}" + (f"\nOptions:{listed}" if listed else "")
    row = {"id": f"flan.{item.family}.{item.number}", "task": item.family, "question": question}
    return {**row, "answer": item.answer, "options": list(item.options) or None}


def _t0(texts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for item in _items(texts, "t0"):
        phrasing = list(texts["phrasings"])[item.number % len(texts["phrasings"])]
        inputs = texts["phrasings"][phrasing].format(question=item.question, definition=item.definition)
        row = {"id": f"t0.{item.family}.{item.number}", "template": f"{item.family}_{phrasing}"}
        yield {**row, "inputs": inputs, "targets": item.answer}


def _openorca(texts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for item in _items(texts, "openorca"):
        system = texts["systems"][item.number % len(texts["systems"])]
        row = {"id": f"sample.{item.family}.{item.number}", "system_prompt": system}
        yield {**row, "question": f"{item.definition} {item.question}", "response": _explained(item)}


def _math(item: Item) -> dict[str, Any]:
    return {"question": item.question, "answer": f"{item.rationale}\n#### {item.answer}"}


def _chats(texts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield conversations of two to five exchanges, the later questions about what was said before."""
    said = texts["conversation"]
    items = _items(texts, "chat")
    for number in range(_CONVERSATIONS):
        draw = Draw(f"chat/{number}")
        messages = [_message("user", said["greeting"]), _message("assistant", said["welcome"])]
        system = draw.one(texts["systems"])
        if system:
            messages.insert(0, _message("system", system))
        for _ in range(draw.between(1, 2)):
            item = next(items)
            messages += [_message("user", item.question), _message("assistant", item.answer)]
            if draw.below(2):
                messages += [_message("user", said["why"]), _message("assistant", item.rationale)]
        if draw.below(3) == 0:
            messages += [_message("user", said["thanks"]), _message("assistant", said["goodbye"])]
        yield {"messages": messages}


def _visits(texts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    words, seen = texts["visit"], set[str]()
    for number in range(_VISITS):
        draw = Draw(f"visit/{number}")
        part, trouble, unit = draw.one(words["parts"]), draw.one(words["troubles"]), draw.one(words["units"])
        values = {
            **{"part": part, "trouble": trouble, "unit": unit, "count": draw.between(2, 6)},
            **{"change": draw.one(words["changes"]), "before": draw.one(words["befores"])},
            "care": draw.one(words["cares"]),
        }
        turns = [("user", "complaint"), ("assistant", "ask"), ("user", "reply"), ("assistant", "advice")]
        said = [_message(role, words[name].format(**values)) for role, name in turns]
        if said[0]["content"] not in seen:
            seen.add(said[0]["content"])
            yield {"messages": [_message("system", words["system"]), *said]}


def _items(texts: Mapping[str, Any], layout: str, of: set[str] | None = None) -> Iterator[Item]:
    """Yield the items of one layout, each family in turn, leaving out repeated questions."""
    seen: set[str] = set()
    first = 1_000 * _LAYOUTS[layout]
    for number in range(first, first + _ITEMS_OF_A_FAMILY):
        for family in texts["families"]:
            item = _item(texts, family, number)
            if (of is None or family in of) and item.question not in seen:
                seen.add(item.question)
                yield item


def _item(texts: Mapping[str, Any], family: str, number: int) -> Item:
    values = _VALUES[family](texts, Draw(f"{family}/{number}"))
    told = texts["families"][family]
    return Item(
        family=family,
        number=number,
        category=told["category"],
        definition=told["definition"],
        question=told["question"].format(**values),
        rationale=told["rationale"].format(**values),
        answer=str(values["answer"]),
        options=values.get("options", ()),
    )


def _shopping(texts: Mapping[str, Any], draw: Draw) -> dict[str, Any]:
    count, price, left = draw.between(2, 12), draw.between(2, 15), draw.between(1, 40)
    named = {"name": draw.one(texts["names"]), "thing": draw.one(texts["things"])}
    return {
        **named,
        "count": count,
        "price": price,
        "left": left,
        "cost": count * price,
        "answer": count * price + left,
    }


def _sharing(texts: Mapping[str, Any], draw: Draw) -> dict[str, Any]:
    people, each = draw.between(2, 9), draw.between(2, 25)
    named = {"name": draw.one(texts["names"]), "thing": draw.one(texts["things"])}
    return {**named, "total": people * each, "people": people, "answer": each}


def _waiting(_: Mapping[str, Any], draw: Draw) -> dict[str, Any]:
    start, minutes = draw.between(6 * 60, 20 * 60), draw.between(11, 190)
    return {"start": _clock(start), "minutes": minutes, "answer": _clock(start + minutes)}


def _weekday(texts: Mapping[str, Any], draw: Draw) -> dict[str, Any]:
    today, count = draw.below(7), draw.between(8, 60)
    answer = texts["days"][(today + count) % 7]
    counted = {"count": count, "weeks": count // 7, "rest": count % 7}
    return {"today": texts["days"][today], **counted, "answer": answer}


def _larger(_: Mapping[str, Any], draw: Draw) -> dict[str, Any]:
    terms = [draw.between(40, 89), draw.between(40, 89), draw.between(11, 39)]
    apart = draw.between(1, 9) * (1 if draw.below(2) else -1)
    last = terms[0] + terms[1] - terms[2] + apart
    first, second = f"{terms[0]} + {terms[1]}", f"{terms[2]} + {last}"
    values = (terms[0] + terms[1], terms[2] + last)
    shown = {"first": first, "second": second, "first_value": values[0], "second_value": values[1]}
    return {**shown, "answer": first if values[0] > values[1] else second, "options": (first, second)}


def _sorting(texts: Mapping[str, Any], draw: Draw) -> dict[str, Any]:
    words = draw.some([word for group in texts["groups"].values() for word in group], 5)
    return {"words": ", ".join(words), "answer": ", ".join(sorted(words))}


def _odd_one(texts: Mapping[str, Any], draw: Draw) -> dict[str, Any]:
    group, other = draw.some(list(texts["groups"]), 2)
    answer = draw.one(texts["groups"][other])
    words = draw.some([*draw.some(texts["groups"][group], 3), answer], 4)
    return {"words": ", ".join(words), "group": group, "other": other, "answer": answer, "options": tuple(words)}


def _letters(texts: Mapping[str, Any], draw: Draw) -> dict[str, Any]:
    word = "".join(draw.some([*texts["made_up"], *texts["actions"].values()], 2))
    letter = draw.one(sorted(set(word)))
    return {"word": word, "letter": letter, "spelled": "-".join(word), "answer": word.count(letter)}


def _backwards(texts: Mapping[str, Any], draw: Draw) -> dict[str, Any]:
    words = draw.some([*texts["things"], *texts["made_up"]], 5)
    return {"words": ", ".join(words), "answer": ", ".join(reversed(words))}


def _membership(texts: Mapping[str, Any], draw: Draw) -> dict[str, Any]:
    group, other = draw.some(list(texts["groups"]), 2)
    asked = group if draw.below(2) else other
    answer = "yes" if asked == group else "no"
    word = draw.one(texts["groups"][group])
    return {"word": word, "group": group, "asked": asked, "answer": answer, "options": ("yes", "no")}


def _syllogism(texts: Mapping[str, Any], draw: Draw) -> dict[str, Any]:
    quantity, reach, answer = (("All", "all", "yes"), ("No", "each", "no"), ("Some", "some", "unknown"))[draw.below(3)]
    first, second = draw.some(texts["made_up"], 2)
    said = {"quantity": quantity, "reach": reach, "first": first, "second": second, "name": draw.one(texts["names"])}
    return {**said, "answer": answer, "options": ("yes", "no", "unknown")}


def _past(texts: Mapping[str, Any], draw: Draw) -> dict[str, Any]:
    verb, name = draw.one(list(texts["actions"])), draw.one(texts["names"])
    past = texts["actions"][verb]
    return {"verb": verb, "past": past, "name": name, "answer": f"They {past} with {name}."}


_VALUES: Mapping[str, Callable[[Mapping[str, Any], Draw], dict[str, Any]]] = {
    "shopping": _shopping,
    "sharing": _sharing,
    "waiting": _waiting,
    "weekday": _weekday,
    "larger": _larger,
    "sorting": _sorting,
    "odd_one": _odd_one,
    "letters": _letters,
    "backwards": _backwards,
    "membership": _membership,
    "syllogism": _syllogism,
    "past": _past,
}
"""What each family's sentences are filled with."""


def _explained(item: Item) -> str:
    return f"{item.rationale} The answer is: {item.answer}"


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _lines(rows: Iterator[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)


def _texts() -> Mapping[str, Any]:
    path = package_files("orca_plugins.sources") / "generate_samples_texts.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main())
