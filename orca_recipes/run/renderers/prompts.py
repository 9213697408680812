"""The tokens before answers against the reference: the ids that inference would see, the text that its template prints.

What stands before an answer is decoded, control tokens in place, and encoded again by the reference tokenizer, from the
start or from the end of the trained answer before, because there a trained answer goes on from its header and not from
its prompt. Then the text up to the last answer is held against what the shipped template prints of its messages.
A text that cannot be read in one way only is counted as not checked, never guessed at.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import numpy as np

from orca_recipes.contract.kinds import Encoder
from orca_recipes.contract.markup import Role
from orca_recipes.contract.templates.chat_template import Refused
from orca_recipes.errors import TemplateError
from orca_recipes.run.renderers.inference import Inference
from orca_recipes.run.renderers.template_skeleton import Skeletons, possible_roles
from orca_recipes.run.segments.trained_text import control_table
from orca_recipes.shards.layout import ROLES, is_trained, role_codes
from orca_recipes.shards.segments import Segments
from orca_recipes.shards.show.visible import visible

HOLDS_CONTROL_TEXT = "hold the text of a control token"
CANNOT_BE_SPELT = "hold text that the tokenizer does not give back"
CANNOT_BE_PARTED = "hold messages that cannot be told apart"

_SHOWN = 40


@dataclass
class PromptCheck:
    """Results of prompt checks: fault sentences by example, the number of examples that held, and the numbers not
    checked, by reason."""

    faults: list[tuple[int, str]] = field(default_factory=list)
    checked: int = 0
    not_checked: Counter[str] = field(default_factory=Counter)


class PromptChecker:
    """A student as shipped, ready to check examples."""

    def __init__(self, encoder: Encoder, inference: Inference) -> None:
        self._encoder = encoder
        self._inference = inference
        self._skeletons = Skeletons(inference, self._kept)
        self._is_control = control_table(encoder)
        # A regular expression takes the first alternative that fits, not the longest.
        longest_first = sorted(encoder.vocabulary.control, key=lambda text: (-len(text), text))
        self._control_text = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    def check(self, tokens: np.ndarray, segments: Segments, example: int, found: PromptCheck) -> None:
        """Check one example of some rows, whose tokens these are."""
        first, last = (int(bound) for bound in segments.example_starts[example : example + 2])
        start = int(segments.example_bounds[example])
        ends = (segments.token_starts[first + 1 : last + 1] - start).tolist()
        ids = np.asarray(tokens[start : start + ends[-1]], dtype=np.int64)
        modes = segments.modes[first:last]
        pieces = list(prompt_spans(ends, is_trained(modes)))
        texts = [self._encoder.decode(ids=ids[begin:stop]) for begin, stop in pieces]
        doubt = self._doubt(ids, pieces, texts)
        if doubt is not None:
            found.not_checked[doubt] += 1
            return
        for (begin, stop), expected in zip(pieces, self._inference.ids(texts), strict=True):
            if expected != ids[begin:stop].tolist():
                # A tokenizer that changes its own output has no one spelling to hold ours against: that is no fault of
                # the build.
                if not self._is_settled(texts):
                    found.not_checked[CANNOT_BE_SPELT] += 1
                else:
                    found.faults.append((example, _other_ids(ids[begin:stop].tolist(), expected, begin)))
                return
        self._check_template(ids, ends, modes, example, found, told=dict(zip(pieces, texts, strict=True)))

    def parted(self, ids: np.ndarray, ends: list[int], modes: np.ndarray) -> list[Mapping[str, str]] | None:
        """Parse the messages before an example's last answer; None if they cannot be separated in just one way.

        Args:
            ids: of the example. ends: of its segments, from its start. modes: of its segments.
        """
        last, _ = roles_before(modes.tobytes())
        return self.parted_text(self._encoder.decode(ids=ids[: ends[last - 1] if last else 0]), modes)

    def parted_text(self, text: str, modes: np.ndarray) -> list[Mapping[str, str]] | None:
        """Parse the messages of the text before an example's last answer, as `parted` does."""
        _, roles = roles_before(modes.tobytes())
        found = (messages for chosen in roles for messages in self._printed(text, chosen))
        first = next(found, None)
        return None if any(other != first for other in found) else first

    def _doubt(self, ids: np.ndarray, pieces: list[tuple[int, int]], texts: list[str]) -> str | None:
        """Give the reason why the texts do not determine their ids; None if they do."""
        unknown = self._encoder.vocabulary.unknown
        for (begin, stop), text in zip(pieces, texts, strict=True):
            printed = sum(match.group() != unknown for match in self._control_text.finditer(text))
            # A control token's text in a content was encoded as text; decoded, nobody can tell the two apart.
            if printed != int(self._is_control[ids[begin:stop]].sum()):
                return HOLDS_CONTROL_TEXT
        return None if self._encoder.spells else CANNOT_BE_SPELT

    def _is_settled(self, texts: list[str]) -> bool:
        """Tell whether the tokenizer leaves the texts unchanged, as it should, since it decoded them."""
        return [self._kept(text) for text in texts] == texts

    def _kept(self, text: str) -> str:
        """Normalize a text that may hold control tokens as the tokenizer does."""
        import pyarrow as pa

        runs = self._control_text.split(text)
        opens = not self._encoder.prefix_only_at_start
        kept = self._encoder.normalized(texts=pa.array(runs, type=pa.large_string()), opens=opens).to_pylist()
        controls = [match.group() for match in self._control_text.finditer(text)]
        return "".join(part for pair in zip(kept, [*controls, ""], strict=True) for part in pair)

    def _check_template(
        self,
        ids: np.ndarray,
        ends: list[int],
        modes: np.ndarray,
        example: int,
        found: PromptCheck,
        told: Mapping[tuple[int, int], str],
    ) -> None:
        """Check that the template prints the text up to the last answer. told: the text of some spans of ids."""
        last = int(np.flatnonzero(is_trained(modes))[-1])
        stop = ends[last - 1] if last else 0
        text = told[0, stop] if (0, stop) in told else self._encoder.decode(ids=ids[:stop])
        codes = role_codes(modes[:last]).tolist()
        tried = list(possible_roles(codes, is_trained(modes[:last]).tolist()))
        if any(next(self._printed(text, roles), None) is not None for roles in tried):
            found.checked += 1
        elif ROLES.index("mixed") in codes or not any(map(self._is_kept, tried)):
            found.not_checked[CANNOT_BE_PARTED] += 1
        else:
            found.faults.append((example, self._other_text(text, tried[0])))

    def _printed(self, text: str, roles: Sequence[Role]) -> Iterator[list[Mapping[str, str]]]:
        """Parse a text into messages of these roles, and yield those that the template prints as this text."""
        for messages in self._skeletons.messages(text, roles):
            try:
                printed = self._inference.prompt(messages)
            except (Refused, TemplateError):
                continue
            # Another text with the same ids is the same to the model: normalizers make such texts.
            if printed == text or self._inference.ids([printed]) == self._inference.ids([text]):
                yield messages

    def _is_kept(self, roles: tuple[str, ...]) -> bool:
        """Tell whether the tokenizer keeps the template's text around such messages unchanged, so it can be found."""
        around = self._skeletons.around(roles)
        return around is not None and around.printed == around.kept

    def _other_text(self, text: str, roles: tuple[str, ...]) -> str:
        found = self._skeletons.around(roles)
        around = found.printed if found else ("",)
        if not text.startswith(around[0]):
            return f"it begins with {_quoted(text)}, where the chat template prints {_quoted(around[0])}"
        return (
            f"what stands before its last answer is no prompt of the chat template for {', '.join(roles)}: "
            f"it ends with {_quoted(text[-_SHOWN:])}, where the template prints {_quoted(around[-1][-_SHOWN:])}"
        )


@lru_cache(maxsize=4096)
def roles_before(modes: bytes) -> tuple[int, tuple[tuple[Role, ...], ...]]:
    """Return an example's last trained segment, and the roles that the messages before it may have.

    Args:
        modes: int8, of its segments. They are alike in most examples.
    """
    held = np.frombuffer(modes, dtype=np.int8)
    last = int(np.flatnonzero(is_trained(held))[-1])
    return last, tuple(possible_roles(role_codes(held[:last]).tolist(), is_trained(held[:last]).tolist()))


def prompt_spans(ends: list[int], trained: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the span before each trained answer: from the start, or from the last token of the answer before."""
    begin = 0
    for (start, stop), answers in zip(pairwise([0, *ends]), trained.tolist(), strict=True):
        if answers:
            if start > begin:
                yield begin, start
            # With the answer's last token, since what follows an answer is encoded behind its end and not behind its
            # words.
            begin = stop - 1


def _other_ids(ours: list[int], theirs: list[int], begin: int) -> str:
    place = next(
        (at for at, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
    )
    here = ours[place] if place < len(ours) else "nothing"
    there = theirs[place] if place < len(theirs) else "nothing"
    return (
        f"at its token {begin + place}: before its answer stands {here}, where inference would see {there} "
        "for the same text"
    )


def _quoted(text: str) -> str:
    shown = text[:_SHOWN] + ("…" if len(text) > _SHOWN else "")
    return '"' + visible(shown.replace("\n", "\\n")) + '"'
