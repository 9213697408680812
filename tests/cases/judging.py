"""Hold what came out of a case against its right values, by the words of `cases/README.md`."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

_CONTROL = re.compile(r"(<[^<>\s]+>|\[[^\[\]\s]+\])*")
Place = tuple[str, int]


@dataclass(frozen=True)
class Outcome:
    """What a command gave: its exit status and errors, and of a build every example and every lost row."""

    exit: int
    stderr: str
    examples: Sequence[Mapping[str, Any]] = ()
    rejected: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Turn:
    """One trained turn: its text without the terminator, the terminator, and all that stands before it."""

    text: str
    end: str
    prompt: str


def faults_of(outcome: Outcome, right: Mapping[str, Any]) -> list[str]:
    """What differs from the right values, a sentence each; empty where all holds."""
    alternative = right.get("or")
    found = [*_told(outcome, right), *_kept(outcome, right), *_nowhere(outcome, right)]
    if found and isinstance(alternative, Mapping):
        return found if faults_of(outcome, alternative) else []
    return found


def trained_turns(example: Mapping[str, Any]) -> list[Turn]:
    """The trained turns of one example of `show --json`, in order."""
    turns, before, open_text = list[Turn](), "", None
    for segment in [*example["segments"], {"trained": False, "text": ""}]:
        if segment["trained"]:
            open_text = (open_text or "") + segment["text"]
        elif open_text is not None:
            turns.append(_turn(open_text, before))
            before, open_text = before + open_text, None
        if not segment["trained"]:
            before += segment["text"]
    return turns


def _turn(text: str, prompt: str) -> Turn:
    start = max(match.start() for match in re.finditer(r"(?=(<[^<>\s]+>|\[[^\[\]\s]+\])$)|$", text))
    match = re.search(r"((?:<\|[^<>\s|]+\|>|\[[A-Z]+\]|</s>)+)$", text)
    end = match.group(1) if match else text[start:]
    return Turn(text=text.removesuffix(end) if end else text, end=end, prompt=prompt)


def _told(outcome: Outcome, right: Mapping[str, Any]) -> Iterable[str]:
    """Exit status and sentence."""
    wanted = right.get("exit", 0)
    if outcome.exit != wanted:
        yield f"exit {outcome.exit}, not {wanted}: {outcome.stderr[-500:]}"
    for text in _listed(right.get("stderr_has", ())):
        if text not in outcome.stderr:
            yield f"stderr does not say {text!r}: {outcome.stderr[-500:]}"
    if (any_of := right.get("stderr_has_any")) and not any(text in outcome.stderr for text in any_of):
        yield f"stderr says none of {any_of}: {outcome.stderr[-500:]}"
    for text in _listed(right.get("stderr_has_not", ())):
        if text in outcome.stderr:
            yield f"stderr says {text!r}"


def _kept(outcome: Outcome, right: Mapping[str, Any]) -> Iterable[str]:
    """Every conversation that must come out, none besides, and every row that must be lost."""
    by_place: dict[Place, list[Mapping[str, Any]]] = defaultdict(list)
    for example in outcome.examples:
        by_place[_place(example)].append(example)
    lost = {_place(row): row for row in outcome.rejected if row["place"] is not None}
    refused = {(PurePath(row["file"]).name, row["place"]): row for row in right.get("rejected", ())}
    for wanted in right.get("examples", ()):
        places = [(_file(wanted), place) for place in wanted.get("place_any", [wanted["place"]])]
        found = [example for place in places for example in by_place.pop(place, ())]
        if found:
            yield from _as_wanted(found, wanted, right)
        elif not _may_lack(wanted, right, places, refused, lost):
            said = [lost[place]["reason"] for place in places if place in lost]
            yield f"{wanted['file']}:{wanted['place']} is not there{f': {said[0]}' if said else ''}"
    for place in by_place:
        yield f"{place[0]}:{place[1]} should not be there"
    for place, row in refused.items():
        kept = any(_place(example) == place for example in outcome.examples)
        if not (right.get("either") and kept):
            yield from _lost_for(place, row, lost)


def _may_lack(
    wanted: Mapping[str, Any],
    right: Mapping[str, Any],
    places: Sequence[Place],
    refused: Mapping[Place, Any],
    lost: Mapping[Place, Any],
) -> bool:
    if wanted.get("required"):
        return False
    may_be_lost = right.get("either") and any(place in refused and place in lost for place in places)
    return bool(wanted.get("optional") or may_be_lost)


def _lost_for(place: Place, wanted: Mapping[str, Any], lost: Mapping[Place, Mapping[str, Any]]) -> Iterable[str]:
    row = lost.get(place)
    if row is None:
        yield f"{place[0]}:{place[1]} is not listed as lost"
        return
    any_of = wanted.get("reason_has_any", [wanted["reason_has"]] if "reason_has" in wanted else [])
    if any_of and not any(text in row["reason"] for text in any_of):
        yield f"{place[0]}:{place[1]} is lost for {row['reason']!r}, which names none of {any_of}"


def _as_wanted(
    found: Sequence[Mapping[str, Any]], wanted: Mapping[str, Any], right: Mapping[str, Any]
) -> Iterable[str]:
    """One place's examples: trained turns in order, the prompt before each, and the context."""
    faults = list(_one_way(found, wanted, right))
    others = wanted.get("or", ())
    if faults and not any(not list(_one_way(found, other, right)) for other in _listed(others)):
        yield from faults


def _one_way(found: Sequence[Mapping[str, Any]], wanted: Mapping[str, Any], right: Mapping[str, Any]) -> Iterable[str]:
    place = f"{wanted['file']}:{wanted['place']}"
    turns = [turn for example in found for turn in trained_turns(example)]
    marks = wanted.get("trained_has")
    if marks is None:
        if sorted(turn.text for turn in turns) != sorted(wanted["trained"]):
            yield f"{place} trains {[turn.text for turn in turns]}, not {wanted['trained']}"
    elif len(turns) != len(marks) or not all(
        _in_order(texts, turn.text) for texts, turn in zip(marks, turns, strict=False)
    ):
        yield f"{place} trains {[turn.text for turn in turns]}, which does not hold {marks}"
    ends = wanted.get("terminator_any") or right.get("terminator_any")
    for turn in turns:
        if not turn.end or (ends and turn.end not in ends):
            yield f"{place} ends a turn with {turn.end!r}"
    for one in wanted.get("turns", ()):
        yield from _turn_as_wanted(place, one, turns)
    context = [text for text in wanted["context"] if text not in wanted["trained"]]
    shown = "".join(part["text"] for example in found for part in example["segments"] if not part["trained"])
    if not _in_order(context, shown):
        yield f"{place} does not show {context}"


def _turn_as_wanted(place: str, wanted: Mapping[str, Any], turns: Sequence[Turn]) -> Iterable[str]:
    prompts = [turn.prompt for turn in turns if turn.text == wanted["trained"]]
    if "prompt" in wanted and wanted["prompt"] not in prompts:
        yield f"{place} trains {wanted['trained']!r} after {prompts}, not after {wanted['prompt']!r}"
    for text in wanted.get("not_in_context", ()):
        if any(text in prompt for prompt in prompts):
            yield f"{place} shows {text!r} before {wanted['trained']!r}"


def _nowhere(outcome: Outcome, right: Mapping[str, Any]) -> Iterable[str]:
    """What must not be trained, shown, or stand together."""
    for example in outcome.examples:
        place = f"{example['file']}:{example['place']}"
        parts = [(part["trained"], part["text"]) for part in example["segments"]]
        turns = trained_turns(example)
        checks = [
            *(
                (text, any(trained and text in part for trained, part in parts))
                for text in right.get("not_trained", ())
            ),
            *((text, any(turn.text == text for turn in turns)) for text in right.get("not_trained_turn", ())),
            *(
                (text, any(not trained and text in part for trained, part in parts))
                for text in right.get("not_context", ())
            ),
            *((text, any(text in part for _, part in parts)) for text in right.get("nowhere", ())),
            *(
                (pair, any(pair[0] in turn.prompt and pair[1] == turn.text for turn in turns))
                for pair in right.get("not_pairs", ())
            ),
        ]
        yield from (f"{place} holds {text!r} where it must not" for text, held in checks if held)


def _in_order(texts: Iterable[str], whole: str) -> bool:
    at = 0
    for text in texts:
        found = whole.find(text, at)
        if found < 0:
            return False
        at = found + len(text)
    return True


def _place(row: Mapping[str, Any]) -> Place:
    return PurePath(row["file"]).name, row["place"]


def _file(wanted: Mapping[str, Any]) -> str:
    return PurePath(wanted.get("file") or wanted["file_ends"]).name


def _listed(value: Any) -> Sequence[Any]:
    return [value] if isinstance(value, str | Mapping) else list(value)
