"""All conversations of a part become examples: by the table of joints where it renders them, else one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from orca_recipes.contract.ending import ending_of
from orca_recipes.contract.frames import BESIDE_CONTENT, BESIDE_MESSAGES, TRAIN_ON
from orca_recipes.contract.kinds import Encoder
from orca_recipes.contract.markup import Markup
from orca_recipes.contract.templates.dialogues import Dialogue
from orca_recipes.contract.templates.template_ends import rendering_of
from orca_recipes.contract.trained_parts import TrainedParts, parts_told
from orca_recipes.run.renderers.inference import Inference
from orca_recipes.run.renderers.last_exchange import last_alone, without_trained
from orca_recipes.run.renderers.plain_exchanges import WORTH, PlainExchanges, given_of_plain, plain_exchanges
from orca_recipes.run.renderers.plain_talks import PlainTalks, plain_talks, single_turns, turns_of
from orca_recipes.run.renderers.prompt_trial import PromptTrial
from orca_recipes.run.renderers.render import Renderer
from orca_recipes.run.renderers.turn_renderer import TurnRenderer, dialogues_of
from orca_recipes.run.renderers.unprinted import unprinted
from orca_recipes.run.segments.inline_thoughts import left_open, with_thoughts
from orca_recipes.run.segments.joined_examples import joined
from orca_recipes.run.segments.rendered_segments import Rendered
from orca_recipes.shards.records import ALL_TURNS
from orca_recipes.store.arrow_files import indices, one_piece
from orca_recipes.store.narrow_tables import whole

if TYPE_CHECKING:
    import pyarrow as pa


_ONE_EXCHANGE = 3
"""Most messages of a single exchange: system, user, assistant."""

PRINTED, TELLING, TURNED = 1, 2, 4
"""How a conversation was rendered: the table of joints gave it tokens; its text holds what the template itself may
print or look for, so that its prompts are always tried; the template rendered it, turn by turn."""


@dataclass(frozen=True)
class Made:
    """Examples made of the conversations of a part.

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

    tokenizer: the tokenizer.json that will be shipped. parts: those of answers that are trained, None where all are;
        a conversation whose rule says which (`frames.TRAIN_ON`) has those.
    """

    markup: Markup
    encoder: Encoder
    tokenizer: Path
    parts: TrainedParts | None = None
    fast: Renderer = field(init=False)

    def __post_init__(self) -> None:
        # A frozen dataclass sets its derived fields so.
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
        wanted = self._wanted(conversations)
        if self.markup.rendering is None and any(wanted):
            return self._by_parts(conversations, wanted, check, exact, of, tried)
        if self.markup.rendering is None:
            return self._by_joints(conversations, check, exact, of, tried, _refused(conversations))
        if self.markup.rendering.history == "last":
            conversations = last_alone(conversations)
        if not self.markup.joints:
            return self._by_exchanges(conversations, check, exact, wanted)
        is_plain = ~_holds_more(conversations)
        # A thought without an end is content to the table of joints, and a fault to the template's own reading.
        is_plain &= ~with_thoughts(conversations, self.markup.rendering.marks).never_end
        is_plain &= [parts is None for parts in wanted]
        if is_plain.all():
            fast = self._by_joints(conversations, check, exact, of, tried, {})
            # A disagreement makes the caller render everything again by the reference: more work on this pass would be
            # thrown away.
            if fast.disagreeing or not fast.reasons:
                return fast
        plain = np.flatnonzero(is_plain)
        if not is_plain.all():
            fast = self._by_joints(conversations.take(indices(plain)), check[plain], exact, of, tried, {})
        if fast.disagreeing:
            return fast
        # What the table of joints cannot print the template itself may print: such conversations get a second chance.
        lost = plain[list(fast.reasons)]
        left = np.union1d(np.flatnonzero(~is_plain), lost)
        return self._with_turns(conversations, fast, plain, left, check, exact, wanted)

    def _wanted(self, conversations: pa.Table) -> list[TrainedParts | None]:
        """List the trained parts of each conversation: its rule's, or the dataset's; None if neither says."""
        told = conversations[TRAIN_ON]
        if told.null_count == len(told):
            return [self.parts] * len(told)
        return [self.parts if text is None else parts_told(text) for text in told.to_pylist()]

    def _by_parts(
        self,
        conversations: pa.Table,
        wanted: Sequence[TrainedParts | None],
        check: np.ndarray,
        exact: bool,
        of: int,
        tried: bool,
    ) -> Made:
        """Render a template without a place for reasoning or calls, training some parts of its answers.

        Answers with a thought between marks are rendered turn by turn, where their parts are told apart; all other
        answers are content.
        """
        thoughts = with_thoughts(conversations)
        thinks = (thoughts.some | thoughts.never_end) & [parts is not None for parts in wanted]
        thinks[list(unprinted(conversations))] = False
        plain = np.flatnonzero(~thinks)
        chosen, parts_of = conversations.take(indices(plain)), [wanted[at] for at in plain.tolist()]
        chosen = without_trained(
            chosen, np.array([bool(parts and not parts.content) for parts in parts_of], dtype=bool)
        )
        fast = self._by_joints(chosen, check[plain], exact, of, tried, _refused(chosen))
        counts = zip(parts_of, fast.rendered.trained_tokens.tolist(), strict=True)
        fast = replace(fast, by_part=[None if parts is None else (0, count, 0) for parts, count in counts])
        if fast.disagreeing or not thinks.any():
            return fast
        left = np.flatnonzero(thinks)
        made = self._with_turns(conversations, fast, plain, left, check, exact, wanted)
        return replace(made, reasons={**{int(plain[at]): why for at, why in fast.reasons.items()}, **made.reasons})

    def _by_exchanges(
        self, conversations: pa.Table, check: np.ndarray, exact: bool, wanted: Sequence[TrainedParts | None]
    ) -> Made:
        """Render a template without joints: exchanges of plain text by columns, all others by turns.

        What is compared with the reference tokenizer is rendered in both ways: where they differ anywhere, all
        conversations are rendered by turns.
        """
        # Calls, tools and thoughts are printed by template code that depends on more than the roles around a content.
        simple = ~_holds_more(conversations) & np.array([parts is None for parts in wanted], dtype=bool)
        if (rendering := self.markup.rendering) is not None:
            simple &= ~with_thoughts(conversations, rendering.marks).never_end & (not rendering.each)
        plain = np.empty(0, dtype=np.int64)
        # Learning the text around exchanges renders the template many times, which pays for many conversations alone.
        if simple.sum() >= WORTH and self._exchanges is not None:
            plain = np.flatnonzero(simple)
            plain = plain[self._fit(_rows(conversations, plain), self._exchanges[0])]
        fast = self._of_exchanges(_rows(conversations, plain), check[plain], exact)
        if fast is None:
            plain = plain[:0]
            fast = self._of_exchanges(conversations.slice(0, 0), check[:0], exact)
        assert fast is not None, "no conversation is rendered in two ways"
        if fast.disagreeing or (len(plain) == conversations.num_rows and not fast.reasons):
            return fast
        left = np.setdiff1d(np.arange(conversations.num_rows), np.delete(plain, list(fast.reasons)))
        return self._with_turns(conversations, fast, plain, left, check, exact, wanted)

    def _fit(self, conversations: pa.Table, exchanges: PlainExchanges) -> np.ndarray:
        """Return bool [conversations]: which are rendered by the columns."""
        found = exchanges.fit(conversations)
        longer = ~found & (np.asarray(one_piece(conversations["messages"]).value_lengths()) > _ONE_EXCHANGE)
        if longer.sum() >= WORTH and self._talks is not None:
            found |= self._talks[0].fit(conversations)
        return found

    def _of_exchanges(self, conversations: pa.Table, check: np.ndarray, exact: bool) -> Made | None:
        """Render exchanges of plain text; None if some of those compared differ turn by turn."""
        fast, turns = self.fast, single_turns(conversations)
        if conversations.num_rows and self._exchanges is not None:
            exchanges, fast = self._exchanges
            if (turns.place >= _ONE_EXCHANGE).any() and self._talks is not None:
                fast, turns = self._talks[1], turns_of(conversations)
            turns = replace(turns, messages=exchanges.printed(turns.messages))
        owner, is_compared = turns.owner, check[turns.owner]
        cut = np.zeros(len(owner), dtype=bool)
        rendered = fast.render(messages=turns.messages, cut=cut, check=is_compared, exact=exact)
        if is_compared.any() and not len(rendered.disagreeing):
            compared, ours = np.flatnonzero(check), np.flatnonzero(is_compared)
            dialogues = dialogues_of(conversations.take(indices(compared)), range(len(compared)))
            slow = self._turns.render(dialogues, check=np.zeros(len(compared), dtype=bool), exact=exact)
            mine = joined([(rendered, ours)], np.arange(len(ours)))
            if slow.reasons or slow.rendered is None or not _are_alike(mine, slow.rendered):
                return None
        return Made(
            rendered=rendered,
            owner=owner,
            turn=turns.turn,
            given=given_of_plain(conversations, owner, turns.place),
            reasons={int(owner[at]): why for at, why in rendered.reasons.items()},
            checked=int(is_compared.sum()),
            fast=conversations.num_rows,
            slow=0,
            way=np.full(conversations.num_rows, TURNED, dtype=np.int8),
            disagreeing=len(rendered.disagreeing),
            places=[[place] for place in turns.place.tolist()],
        )

    @cached_property
    def _exchanges(self) -> tuple[PlainExchanges, Renderer] | None:
        """Return the template's text around single exchanges, and its renderer; None if that text depends on more
        than roles."""
        found = plain_exchanges(self._turns.writer, self.markup.chat_template, list(self.encoder.vocabulary.control))
        return None if found is None else (found, Renderer(markup=found.markup, encoder=self.encoder))

    @cached_property
    def _talks(self) -> tuple[PlainTalks, Renderer] | None:
        """Return the template's text around earlier answers, and the renderer of single and several exchanges; None as
        for `_exchanges`."""
        if self._exchanges is None:
            return None
        exchanges = self._exchanges[0]
        found = plain_talks(exchanges, self._turns.writer, self.markup.chat_template)
        if found is None:
            return None
        return found, Renderer(markup=exchanges.markup, encoder=self.encoder, earlier=found.earlier)

    @cached_property
    def _trial(self) -> PromptTrial:
        return PromptTrial(self.markup, self.encoder, self.tokenizer)

    @cached_property
    def _turns(self) -> TurnRenderer:
        vocabulary = ending_of(self.markup, self.encoder).named(self.encoder.vocabulary)
        inference = Inference(self.tokenizer, self.markup.chat_template, vocabulary)
        rendering = self.markup.rendering or rendering_of(inference.template, vocabulary)
        return TurnRenderer(rendering, self.encoder, inference)

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
        self,
        conversations: pa.Table,
        fast: Made,
        plain: np.ndarray,
        left: np.ndarray,
        check: np.ndarray,
        exact: bool,
        wanted: Sequence[TrainedParts | None],
    ) -> Made:
        """Join the examples rendered by the table of joints with those of the conversations left to turns."""
        lost = np.zeros(len(plain), dtype=bool)
        lost[list(fast.reasons)] = True
        dialogues = dialogues_of(conversations, left.tolist())
        parts = {owner: parts for owner in dialogues if (parts := wanted[owner]) is not None}
        slow = self._turns.render(dialogues, check=check, exact=exact, parts=parts)
        kept = np.flatnonzero(~lost[fast.owner])
        found = [] if slow.rendered is None else [(slow.rendered, np.arange(len(slow.examples)))]
        owner = np.concatenate(
            [plain[fast.owner[kept]], np.array([one.owner for one in slow.examples], dtype=np.int64)]
        )
        turn = np.concatenate([fast.turn[kept], np.array([one.turn for one in slow.examples], dtype=np.int32)])
        ready = (fast.given or [None] * len(fast.owner), fast.places or [None] * len(fast.owner))
        given_fast, places_fast = ([column[at] for at in kept.tolist()] for column in ready)
        given = [*given_fast, *(_given(dialogues[one.owner], one.turns[-1].place) for one in slow.examples)]
        places = [*places_fast, *([turn.place for turn in one.turns] for one in slow.examples)]
        # Stable, so that the turns of one conversation keep their order.
        order = np.argsort(owner, kind="stable")
        way = np.zeros(conversations.num_rows, dtype=np.int8)
        way[plain] = fast.way
        way[left] |= TURNED
        by_part: list[Sequence[int] | None] | None = None
        if fast.by_part is not None or slow.by_part is not None:
            by_part = [*_taken(fast.by_part, kept), *_taken(slow.by_part, np.arange(len(slow.examples)))]
        return Made(
            rendered=joined([(fast.rendered, kept), *found], order),
            owner=owner[order],
            turn=turn[order],
            given=[given[at] for at in order.tolist()],
            reasons=dict(slow.reasons),
            checked=fast.checked + len(slow.examples),
            fast=int((~lost).sum()),
            slow=len(left),
            way=way,
            disagreeing=0 if slow.rendered is None else len(slow.rendered.disagreeing),
            places=[places[at] for at in order.tolist()],
            by_part=None if by_part is None else _taken(by_part, order),
        )


def _refused(conversations: pa.Table) -> dict[int, str]:
    """Return why a template without a place for reasoning or calls trains some conversations not, by position."""
    return {**left_open(conversations), **unprinted(conversations)}


def _rows(conversations: pa.Table, rows: np.ndarray) -> pa.Table:
    """Return some rows, rising; all of them without a copy."""
    return conversations if len(rows) == conversations.num_rows else conversations.take(indices(rows))


def _are_alike(one: Rendered, other: Rendered) -> bool:
    """Tell whether two renderings hold the same tokens and segments."""
    columns = ("tokens", "example_starts", "segment_lengths", "segment_modes", "segment_starts", "trained_tokens")
    same = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in columns)
    return same and bool(one.trained_texts.equals(other.trained_texts))


def _taken(of: Sequence[Sequence[int] | None] | None, rows: np.ndarray) -> list[Sequence[int] | None]:
    return [None if of is None else of[at] for at in rows.tolist()]


def given_of(dialogue: Dialogue) -> str:
    """Encode the messages that inference is given of a conversation, through its last trained answer, as records keep
    them."""
    trained = [at for at, one in enumerate(dialogue.messages) if one["role"] == "assistant" and one.get("trained")]
    return _given(dialogue, trained[-1])


def _given(dialogue: Dialogue, last: int) -> str:
    return Dialogue(dialogue.messages[: last + 1], dialogue.tools, dialogue.variables).as_json()


def _holds_more(conversations: pa.Table) -> np.ndarray:
    """Return bool [conversations]: which hold more than plain messages."""
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
