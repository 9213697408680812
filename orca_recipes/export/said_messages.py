"""Examples as messages again, from their tokens and the shipped chat template alone.

A record that keeps the conversation tells it. Of others, messages are found by what the template prints around them,
and kept only where the template prints the same prompt of them again: what cannot be told apart is counted under a
reason and never guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orca_recipes.contract.exporter import Said, SaidMessage
from orca_recipes.contract.rendering import Rendering
from orca_recipes.contract.templates.dialogues import Dialogue, calls_of, dialogue_of, thought_of
from orca_recipes.contract.templates.template_ends import rendering_of
from orca_recipes.contract.templates.turn_texts import TurnWriter
from orca_recipes.errors import ExportError
from orca_recipes.export.row_blocks import Teller
from orca_recipes.prove.given_check import rendering_options
from orca_recipes.prove.shipped_student import ShippedStudent, open_shipped
from orca_recipes.recipe.choice import Kinds
from orca_recipes.run.renderers.prompts import PromptChecker
from orca_recipes.run.renderers.turn_renderer import TurnRenderer
from orca_recipes.shards.layout import ROLES, is_trained, role_codes
from orca_recipes.shards.manifest import Manifest
from orca_recipes.shards.records import BY_PART, CUT, GIVEN, TRUNCATED, TURNS_DROPPED, WINDOW
from orca_recipes.shards.segments import Segments

if TYPE_CHECKING:
    import pyarrow as pa

CANNOT_BE_PARTED = "their messages cannot be told apart by the chat template"
CANNOT_BE_SAID = "their answer is not the text of its tokens alone"
IS_CUT = "their answer was cut and has no end, where a chat template would end it"
HOLDS_CONTROL = "their messages hold the text of a control token, which a trainer would take for one"
IS_WINDOW = "they are windows of longer conversations, which a chat template would print whole"


def message_teller(directory: Path, manifest: Manifest, kinds: Kinds) -> Teller:
    """Open the student that a build ships, to tell its examples as messages.

    Raises: ExportError where it cannot be opened.
    """
    student = open_shipped(directory, manifest, kinds, ())
    if not isinstance(student, ShippedStudent):
        why = student.why if hasattr(student, "why") else str(student)
        raise ExportError(f"{directory}: its examples cannot be written as messages: {why}; build it again")
    return _Teller(student, manifest.terminators, manifest.recipe.get("template"))


class _Teller:
    """Tells examples as messages."""

    def __init__(self, student: ShippedStudent, terminators: Sequence[Sequence[int]], template: Any) -> None:
        """template: the recipe's table of that name."""
        self._student = student
        self._template = template
        self._checker = PromptChecker(student.encoder, student.inference)
        self._control = re.compile("|".join(map(re.escape, student.encoder.vocabulary.control)) or "(?!)")
        # Shortest first: it may be the end of a longer one, which then has the last word.
        self._ends = sorted((list(ids) for ids in terminators), key=len)

    def __call__(self, tokens: np.ndarray, segments: Segments, records: pa.Table) -> list[Said]:
        names = [name for name in (GIVEN, WINDOW, *BY_PART) if name in records.column_names]
        lines = records.select(["flags", *names]).to_pylist()
        whys = [_why_untold(line) for line in lines]
        plain = [at for at, line in enumerate(lines) if whys[at] is None and line.get(GIVEN) is None]
        texts = dict(zip(plain, self._texts(tokens, segments, np.array(plain, dtype=np.int64)), strict=True))

        def told(at: int) -> Said:
            if whys[at] is not None:
                return Said(why=whys[at])
            return self._said(segments, at, *texts[at]) if at in texts else self._given(segments, at, lines[at])

        return [told(at) for at in range(len(lines))]

    def _given(self, segments: Segments, example: int, record: Mapping[str, Any]) -> Said:
        """Restore the conversation of a record as the template was given it, through the example's last answer."""
        dialogue = dialogue_of(record[GIVEN], is_cut=False)
        trained = self._trained(dialogue, segments, example, record)
        if not trained:
            return Said(why=CANNOT_BE_PARTED)
        said = []
        for at, message in enumerate(dialogue.messages[: trained[-1] + 1]):
            told = dict(self._writer.told(message))
            said.append(SaidMessage(told.pop("role"), told.pop("content"), at in trained, told))
        answers = [dialogue.messages[at] for at in trained]
        return Said(
            tuple(said),
            tools=dialogue.tools,
            variables=dialogue.variables,
            is_partly_trained=self._is_partly_trained(answers, record),
        )

    def _trained(
        self, dialogue: Dialogue, segments: Segments, example: int, record: Mapping[str, Any]
    ) -> Sequence[int]:
        """Return the places of the messages trained by an example; none if they cannot be told.

        A conversation may have become several examples, of which each trains some answers behind the ones before.
        """
        first, last = (int(at) for at in segments.example_starts[example : example + 2])
        count = int(np.count_nonzero(is_trained(segments.modes[first:last])))
        places = [at for at, one in enumerate(dialogue.messages) if one["role"] == "assistant" and one.get("trained")]
        by_part = any(record.get(name) is not None for name in BY_PART)
        if not by_part and not record["flags"] & TURNS_DROPPED:
            return places[-count:] if count <= len(places) else ()
        found = self._turns.render({0: dialogue}, check=np.zeros(1, dtype=bool), exact=False)
        if found.rendered is None or found.reasons:
            return ()
        turns = [turn.place for turn in found.examples[-1].turns]
        # Of an answer whose parts are trained, several spans may be, or one that ends before it.
        begin, end = (int(at) for at in found.rendered.segment_starts[len(found.examples) - 1 :][:2])
        lengths, modes = (
            column[begin:end] for column in (found.rendered.segment_lengths, found.rendered.segment_modes)
        )
        begins = (np.cumsum(lengths) - lengths)[is_trained(modes)]
        return turns[: int(np.count_nonzero(begins < int(segments.example_tokens[example])))]

    def _is_partly_trained(self, answers: Sequence[Mapping[str, Any]], record: Mapping[str, Any]) -> bool:
        """Tell whether the answers have a part without loss: a part that is off is so in all of them."""
        if all(record.get(name) is None for name in BY_PART):
            return False
        parts = [(*thought_of(one, *self._rendering.marks), calls_of(one)) for one in answers]
        held = (any(part[at] for part in parts) for at in range(len(BY_PART)))
        return any(is_there and not record[name] for is_there, name in zip(held, BY_PART, strict=True))

    @cached_property
    def _turns(self) -> TurnRenderer:
        return TurnRenderer(self._rendering, self._student.encoder, self._student.inference)

    @cached_property
    def _rendering(self) -> Rendering:
        vocabulary = self._student.encoder.vocabulary
        return rendering_of(self._student.inference.template, vocabulary, **rendering_options(self._template))

    @cached_property
    def _writer(self) -> TurnWriter:
        vocabulary = self._student.encoder.vocabulary
        return TurnWriter(self._student.inference.template, self._rendering, vocabulary.control, vocabulary.bos)

    def _texts(self, tokens: np.ndarray, segments: Segments, examples: np.ndarray) -> Iterator[tuple[str, str | None]]:
        """Decode the text of each example before its last answer, and that answer's; None where it cannot be cut out of
        the example's text, or has no terminator."""
        starts, ends = segments.example_bounds[examples], segments.example_bounds[examples + 1]
        trained = np.flatnonzero(is_trained(segments.modes))
        last = trained[np.searchsorted(trained, segments.example_starts[examples + 1]) - 1]
        begins = segments.token_starts[last]
        stops = self._without_terminator(tokens, begins, ends)
        has_end = (segments.token_starts[last + 1] == ends) & (stops >= begins)
        decode = self._student.encoder.decode_spans
        prompts = decode(ids=tokens, starts=starts, stops=begins)
        wholes = iter(decode(ids=tokens, starts=starts[has_end], stops=stops[has_end]))
        for prompt, is_found in zip(prompts, has_end.tolist(), strict=True):
            whole = next(wholes) if is_found else ""
            yield prompt, whole[len(prompt) :] if is_found and whole.startswith(prompt) else None

    def _said(self, segments: Segments, example: int, prompt: str, answer: str | None) -> Said:
        """Tell an example by the text before its last answer, and that answer's, which may not be known."""
        modes = segments.modes[slice(*segments.example_starts[example : example + 2])]
        before = self._checker.parted_text(prompt, modes)
        if before is None:
            return Said(why=CANNOT_BE_PARTED)
        if answer is None:
            return Said(why=CANNOT_BE_SAID)
        if any(self._control.search(text) for text in (*(one["content"] for one in before), answer)):
            return Said(why=HOLDS_CONTROL)
        marks = _marks(modes.tobytes(), tuple(one["role"] == "assistant" for one in before))
        if marks is None:
            return Said(why=CANNOT_BE_PARTED)
        marked = (SaidMessage(one["role"], one["content"], is_on) for one, is_on in zip(before, marks, strict=True))
        return Said((*marked, SaidMessage("assistant", answer, trained=True)))

    def _without_terminator(self, tokens: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Return int64 [spans]: where each span ends without its terminator, below its begin where it has none."""
        stops = begins - 1
        for terminator in self._ends:
            fits = ends - len(terminator) >= begins
            for back, token in enumerate(reversed(terminator), 1):
                fits &= tokens[np.maximum(ends - back, 0)] == token
            stops = np.where(fits, ends - len(terminator), stops)
        return stops


def _why_untold(record: Mapping[str, Any]) -> str | None:
    if record["flags"] & (CUT | TRUNCATED):
        return IS_CUT
    return IS_WINDOW if record.get(WINDOW) is not None else None


@lru_cache(maxsize=4096)
def _marks(modes: bytes, answers: tuple[bool, ...]) -> tuple[bool, ...] | None:
    """Tell of each message before the last answer whether it is trained, as its segments are; None where of answers in
    a row some are trained.

    Args:
        modes: int8, of the example's segments. answers: which of the messages are answers.
    """
    held = np.frombuffer(modes, dtype=np.int8)
    trained = is_trained(held)
    last = int(np.flatnonzero(trained)[-1])
    parts = zip((role_codes(held[:last]) == ROLES.index("assistant")).tolist(), trained[:last].tolist(), strict=True)
    answered = [sum(carries for _, carries in run) for is_answer, run in groupby(parts, key=itemgetter(0)) if is_answer]
    said = [len(list(run)) for is_answer, run in groupby(answers) if is_answer]
    if answered and not answered[-1] and len(answered) == len(said) + 1:
        del answered[-1]  # the generation prompt's
    if len(answered) != len(said):
        answered, said = [sum(answered)], [sum(said)]
    if any(count not in (0, most) for count, most in zip(answered, said, strict=True)):
        return None
    marks = iter([bool(count) for count, most in zip(answered, said, strict=True) for _ in range(most)])
    return tuple(is_answer and next(marks) for is_answer in answers)
