"""Both views of an example from a build directory alone: the teacher's by its record, the student's by its tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orca_recipes.errors import UserError
from orca_recipes.prove.shipped_student import ShippedStudent, open_shipped
from orca_recipes.recipe.choice import Kinds
from orca_recipes.run.conversations.views import asked_messages
from orca_recipes.run.renderers.prompts import PromptChecker
from orca_recipes.shards.layout import is_trained
from orca_recipes.shards.manifest import read_manifest
from orca_recipes.shards.show.row_page import Piece, Views
from orca_recipes.shards.show.show import ViewTeller


def view_teller(directory: Path, kinds: Kinds) -> ViewTeller:
    """Make the function that gives `show` both views of an example.

    Raises: BuildError where there is no build; UserError where its tokenizer cannot be opened here.
    """
    student = open_shipped(directory, read_manifest(directory), kinds, set())
    if not isinstance(student, ShippedStudent):
        why = getattr(student, "why", None) or getattr(student, "sentence", "")
        raise UserError(f"{directory}: the views cannot be shown without its tokenizer ({why}); build it again")
    checker = PromptChecker(student.encoder, student.inference)

    def tell(record: Mapping[str, Any], ids: np.ndarray, ends: Sequence[int], modes: np.ndarray) -> Views | None:
        if record["teacher_view"] is None:
            return None
        ids = np.asarray(ids, dtype=np.int64)
        messages = checker.parted(ids, list(ends), modes)
        if messages is None:
            return None
        last = int(np.flatnonzero(is_trained(modes))[-1])
        answer = student.encoder.decode(ids=ids[(ends[last - 1] if last else 0) : ends[last]])
        seen = [Piece(message["role"], False, message["content"]) for message in messages]
        asked = [Piece(role, False, text) for role, text in asked_messages(record["teacher_view"], messages)]
        return Views(asked, [*seen, Piece("assistant", True, answer)])

    return tell
