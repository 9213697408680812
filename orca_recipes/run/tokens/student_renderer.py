"""All conversations of a part become examples: by the table of joints where it renders them, else one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.ending import ending_of
from orca_recipes.contract.frames import BESIDE_CONTENT, BESIDE_MESSAGES
from orca_recipes.contract.kinds import Encoder
from orca_recipes.contract.markup import Markup
from orca_recipes.contract.trained_parts import TrainedParts
from orca_recipes.contract.turn_texts import Dialogue
from orca_recipes.run.tokens.inference import Inference
from orca_recipes.run.tokens.joined_examples import joined
from orca_recipes.run.tokens.last_exchange import last_alone, without_trained
from orca_recipes.run.tokens.prompt_trial import PromptTrial
from orca_recipes.run.tokens.render import Renderer
from orca_recipes.run.tokens.rendered_segments import Rendered
from orca_recipes.run.tokens.turn_renderer import TurnRenderer, dialogues_of
from orca_recipes.run.tokens.unprinted import unprinted
from orca_recipes.shards.records import ALL_TURNS
from orca_recipes.store.arrow_files import indices, one_piece
from orca_recipes.store.narrow_tables import whole

if TYPE_CHECKING:
    import pyarrow as pa


PRINTED, TELLING, TURNED = 1, 2, 4
"""How a conversation was rendered: the table of joints gave it tokens; its text holds what the template itself may
print or look for, so that its prompts are always tried; the template rendered it, turn by turn."""


@dataclass(frozen=True)
class Made:
    """What became of the conversations of a part.

    rendered: the tokens of examples, in the order of conversations. owner: int64 [examples], the position of each
    one's conversation. turn: int32 [examples], `records.ALL_TURNS` or the number of its last turn.
    given: what inference is given of it as JSON, of examples that were rendered one at a time.
    reasons: why conversations cannot be trained on, by position; examples of theirs may be there all the same.
    checked: examples whose prompts were held against inference's. fast, slow: conversations rendered in either way.
    places: the positions of the messages that an example trains, of those that were rendered one at a time.
    window: int32 [examples], which window of an example each is, from 1; 0 where it is whole. flags: int8 [examples],
    of their records. Both are None where no example was made to fit. by_part: trained tokens of each by
    `trained_parts.PARTS`, None where the recipe does not say which are trained.
    way: int8 [conversations], of PRINTED, TELLING and TURNED.
    disagreeing: whether the fast tokenizer differed from the reference on an example that was compared.
    """

    rendered: Rendered
    owner: np.ndarray
    turn: np.ndarray
    given: Sequence[str | None] | None
    reasons: dict[int, str]
    checked: int
    fast: int
    slow: int
    way: np.ndarray
    disagreeing: int = 0
    places: Sequence[Sequence[int] | None] | None = None
    window: np.ndarray | None = None
    flags: np.ndarray | None = None
    by_part: Sequence[Sequence[int] | None] | None = None


@dataclass(frozen=True)
class StudentRenderer:
    """A markup with a loaded tokenizer.

    tokenizer: the tokenizer.json that will be shipped. parts: those of answers that are trained, None where all are.
    """

    markup: Markup
    encoder: Encoder
    tokenizer: Path
    parts: TrainedParts | None = None
    fast: Renderer = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fast", Renderer(markup=self.markup, encoder=self.encoder))

    def render(self, conversations: pa.Table, *, check: np.ndarray, exact: bool, of: int, tried: bool = True) -> Made:
        """Make examples of conversations.

        Args:
            conversations: columns of `frames.STORED_CONVERSATIONS`.
            check: bool [conversations], compare these with the reference tokenizer.
            exact: encode everything with the reference. of: conversations of the whole stage.
            tried: hold prompts of the table of joints against inference's.
        Raises: TemplateError, as `PromptTrial.look`.
        """
        conversations = whole(conversations)
        if self.markup.rendering is None:
            if self.parts is not None and not self.parts.content:
                conversations = without_trained(conversations)
            return self._by_joints(conversations, check, exact, of, tried, unprinted(conversations))
        if self.markup.rendering.history == "last":
            conversations = last_alone(conversations)
        has_joints = bool(self.markup.joints) and self.parts is None
        is_plain = np.full(conversations.num_rows, has_joints) & ~_holds_more(conversations)
        if is_plain.all():
            fast = self._by_joints(conversations, check, exact, of, tried, {})
            if fast.disagreeing or not fast.reasons:
                return fast
            return self._with_turns(conversations, fast, np.arange(len(is_plain)), check, exact)
        plain = np.flatnonzero(is_plain)
        fast = self._by_joints(conversations.take(indices(plain)), check[plain], exact, of, tried, {})
        return fast if fast.disagreeing else self._with_turns(conversations, fast, plain, check, exact)

    @cached_property
    def _trial(self) -> PromptTrial:
        return PromptTrial(self.markup, self.encoder, self.tokenizer)

    @cached_property
    def _turns(self) -> TurnRenderer:
        assert self.markup.rendering is not None
        vocabulary = ending_of(self.markup, self.encoder).named(self.encoder.vocabulary)
        inference = Inference(self.tokenizer, self.markup.chat_template, vocabulary)
        return TurnRenderer(self.markup.rendering, self.encoder, inference, self.parts)

    def _by_joints(
        self,
        conversations: pa.Table,
        check: np.ndarray,
        exact: bool,
        of: int,
        tried: bool,
        refused: dict[int, str],
    ) -> Made:
        count = conversations.num_rows
        rendered = self.fast.render(
            messages=one_piece(conversations["messages"]),
            cut=np.asarray(conversations["cut"]),
            check=check,
            exact=exact,
        )
        reasons, checked = {**rendered.reasons, **refused}, 0
        if tried and not len(rendered.disagreeing):
            looked = self._trial.look(conversations, rendered, of=of)
            reasons, checked = {**rendered.reasons, **looked.reasons, **refused}, looked.checked
        turn = np.full(count, ALL_TURNS, dtype=np.int32)
        owner = np.arange(count)
        way = (np.diff(rendered.segment_starts) > 0) * PRINTED + rendered.marked * TELLING
        return Made(
            rendered, owner, turn, None, reasons, checked, count, 0, way.astype(np.int8), len(rendered.disagreeing)
        )

    def _with_turns(
        self, conversations: pa.Table, fast: Made, plain: np.ndarray, check: np.ndarray, exact: bool
    ) -> Made:
        """The examples of the table of joints, with those of all conversations that it did not render."""
        lost = np.zeros(len(plain), dtype=bool)
        lost[list(fast.reasons)] = True
        left = np.setdiff1d(np.arange(conversations.num_rows), plain[~lost]).tolist()
        dialogues = dialogues_of(conversations, left)
        slow = self._turns.render(dialogues, check=check, exact=exact)
        kept = np.flatnonzero(~lost)
        found = [] if slow.rendered is None else [(slow.rendered, np.arange(len(slow.examples)))]
        owner = np.concatenate([plain[kept], np.array([one.owner for one in slow.examples], dtype=np.int64)])
        turn = np.concatenate([fast.turn[kept], np.array([one.turn for one in slow.examples], dtype=np.int32)])
        given = [*[None] * len(kept), *(_given(dialogues[one.owner], one.turns[-1].place) for one in slow.examples)]
        places = [*[None] * len(kept), *([turn.place for turn in one.turns] for one in slow.examples)]
        order = np.argsort(owner, kind="stable")
        way = np.zeros(conversations.num_rows, dtype=np.int8)
        way[plain] = fast.way
        way[left] |= TURNED
        return Made(
            rendered=joined([(fast.rendered, kept), *found], order),
            owner=owner[order],
            turn=turn[order],
            given=[given[at] for at in order.tolist()],
            reasons=dict(slow.reasons),
            checked=fast.checked + len(slow.examples),
            fast=len(kept),
            slow=len(left),
            way=way,
            disagreeing=0 if slow.rendered is None else len(slow.rendered.disagreeing),
            places=[places[at] for at in order.tolist()],
            by_part=None if slow.by_part is None else [slow.by_part[at] for at in order.tolist()],
        )


def given_of(dialogue: Dialogue) -> str:
    """What inference is given of a conversation through its last trained answer, as records keep it."""
    trained = [at for at, one in enumerate(dialogue.messages) if one["role"] == "assistant" and one.get("trained")]
    return _given(dialogue, trained[-1])


def _given(dialogue: Dialogue, last: int) -> str:
    return Dialogue(dialogue.messages[: last + 1], dialogue.tools, dialogue.variables).as_json()


def _holds_more(conversations: pa.Table) -> np.ndarray:
    """bool [conversations]: which hold more than plain messages."""
    import pyarrow.compute as pc

    messages = one_piece(conversations["messages"])
    flat, found = messages.flatten(), np.zeros(conversations.num_rows, dtype=bool)
    for name in BESIDE_CONTENT:
        if flat.field(name).null_count < len(flat):
            owners = pc.list_parent_indices(messages).filter(flat.field(name).is_valid())
            found[owners.to_numpy()] = True
    for name in BESIDE_MESSAGES:
        if conversations[name].null_count < conversations.num_rows:
            found |= conversations[name].is_valid().to_numpy()
    return found
