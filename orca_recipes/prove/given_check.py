"""Check examples on the slow path: render each conversation kept in the records again and compare.

The conversation is rendered anew by the shipped template and encoded by the reference tokenizer; tokens and mask must
be those of the build, and the ids before every answer those that inference would see.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from orca_recipes.contract.kinds import Encoder
from orca_recipes.contract.templates.dialogues import dialogue_of
from orca_recipes.contract.templates.template_ends import rendering_of
from orca_recipes.contract.trained_parts import TrainedParts
from orca_recipes.errors import TemplateError
from orca_recipes.run.renderers.inference import Inference
from orca_recipes.run.renderers.turn_renderer import TurnRenderer
from orca_recipes.run.tokens.windows import Cutting, masked
from orca_recipes.shards.layout import is_trained

_OPTIONS = ("terminator", "history", "empty_thought")


class GivenChecker:
    """A student as shipped, with the options of its template."""

    def __init__(self, encoder: Encoder, inference: Inference, template: Any, cutting: Cutting) -> None:
        """template: the recipe's table of that name. cutting: how the build cuts examples into windows."""
        self._cutting = cutting
        self._encoder = encoder
        self._inference = inference
        self._options = rendering_options(template)

    def fault(
        self,
        given: str,
        ids: np.ndarray,
        trained: np.ndarray,
        *,
        is_cut: bool,
        is_shortened: bool,
        window: int | None,
        parts: TrainedParts | None,
    ) -> str | None:
        """Render an example's conversation anew, and return the example's fault; None where it is what inference would
        see.

        Args:
            given: the conversation up to the example's last answer. ids, trained: of the example's tokens.
            is_cut: its last answer is not finished. is_shortened: packing took away its end.
            window: which of its windows it is, None where it is whole. parts: those that are trained, None for all.
        """
        try:
            dialogue = dialogue_of(given, is_cut=is_cut)
            said = {} if parts is None else {0: parts}
            found = self._turns.render({0: dialogue}, check=np.zeros(1, dtype=bool), exact=True, parts=said)
        except TemplateError as fault:
            return f"the chat template cannot be used as a build uses it ({fault})"
        except (ValueError, KeyError, TypeError):
            return "its record tells no conversation that could be rendered"
        if found.rendered is None or found.reasons:
            return f"its conversation cannot be rendered anew: {found.reasons.get(0, 'it has no answer')}"
        rendered, last = found.rendered, len(found.examples) - 1
        start, stop = rendered.example_starts[last : last + 2]
        first, end = rendered.segment_starts[last : last + 2]
        wanted = rendered.tokens[start:stop].astype(np.int64)
        mask = np.repeat(is_trained(rendered.segment_modes[first:end]), rendered.segment_lengths[first:end])
        if window is not None:
            windows = self._cutting.windows(rendered.segment_lengths[first:end], rendered.segment_modes[first:end])
            if window > len(windows):
                return f"it is window {window}, where its conversation gives {len(windows)}"
            chosen = windows[window - 1]
            wanted, mask = self._cutting.tokens(chosen, wanted), masked(chosen, mask)
            # A window behind the first begins with BOS again, which is not trained.
            mask = np.pad(mask, (len(wanted) - len(mask), 0))
        elif is_shortened:
            wanted, mask = wanted[: len(ids)], mask[: len(ids)]
        if len(wanted) != len(ids):
            return f"it has {len(ids)} tokens, where its conversation gives {len(wanted)}"
        other = np.flatnonzero((wanted != ids) | (mask != trained))
        if not len(other):
            return None
        at = int(other[0])
        if wanted[at] != ids[at]:
            return f"at its token {at}: it holds {ids[at]}, where its conversation gives {wanted[at]}"
        return f"at its token {at}: it is {'' if trained[at] else 'not '}trained, and its conversation says otherwise"

    @cached_property
    def _turns(self) -> TurnRenderer:
        rendering = rendering_of(self._inference.template, self._encoder.vocabulary, **self._options)
        return TurnRenderer(rendering, self._encoder, self._inference)


def rendering_options(template: Any) -> dict[str, Any]:
    """Select the options of a recipe's template that decide how conversations are rendered; template: the table of that
    name."""
    return {name: template[name] for name in _OPTIONS if name in template} if isinstance(template, Mapping) else {}
