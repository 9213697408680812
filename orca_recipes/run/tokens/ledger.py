"""The ledger of stage `tokenize`: one line a conversation, where its examples stand and what rendering it told.

So a later stage takes over the tokens of conversations that are the same, and counts them as if it had made them:
everything that a stage reports is a sum over lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from orca_recipes.run.renderers.student_renderer import PRINTED, TELLING, TURNED, Made
from orca_recipes.run.segments.ragged import ragged
from orca_recipes.run.tokens.expansion import Expansion
from orca_recipes.shards.text_columns import numbers
from orca_recipes.store.arrow_files import column_of, one_piece, read_table, write_table

LEDGER = ".ledger.arrow"
TAILED, RENDERED, CHECKED = 16, 32, 64
"""Bits beside those of `student_renderer`: it goes on behind its last answer; it was rendered; its prompt was held
against inference's."""
NOWHERE = -1
_DTYPES = {"first": np.int64, "way": np.int8}
_ALWAYS = ("unit", "first", "examples", "way")
_REASON = "reason"


@dataclass(frozen=True)
class Ledger:
    """Lines [conversations], in the order of the stage's conversations; those that were not rendered are 0.

    unit: int32, which part holds the examples, NOWHERE where there are none. first: int64, the first of its examples
    there; examples: int32. way: int8, `student_renderer`'s bits and CHECKED. tried: int32, examples of
    conversations rendered one at a time that were held against inference. unknown, unknown_answers, changed,
    changed_answers: int32, examples and answers that the vocabulary cannot spell, or the normalizer changes. printed,
    tokens, once: int32, as `Expansion` counts them.
    """

    unit: np.ndarray
    first: np.ndarray
    examples: np.ndarray
    way: np.ndarray
    tried: np.ndarray
    unknown: np.ndarray
    unknown_answers: np.ndarray
    changed: np.ndarray
    changed_answers: np.ndarray
    printed: np.ndarray
    tokens: np.ndarray
    once: np.ndarray

    @classmethod
    def empty(cls, rows: int) -> Ledger:
        columns = {field.name: np.zeros(rows, dtype=_DTYPES.get(field.name, np.int32)) for field in fields(cls)}
        return cls(**{**columns, "unit": np.full(rows, NOWHERE, dtype=np.int32)})

    @classmethod
    def of(cls, made: Made, kept: np.ndarray, unit: int, *, expansion: Expansion, sampled: np.ndarray) -> Ledger:
        """Make the lines of conversations rendered just now.

        Args:
            kept: bool [conversations], those whose examples the unit holds. sampled: bool [conversations], those whose
                prompts were looked at whatever they hold.
        """
        rows, rendered = len(kept), made.rendered
        examples = np.bincount(made.owner, minlength=rows) * kept
        is_tried = np.zeros(len(made.owner), dtype=bool)
        if made.given is not None:
            is_tried = np.array([one is not None for one in made.given], dtype=bool)
        checked = ((made.way & PRINTED) > 0) & (((made.way & TELLING) > 0) | sampled)

        def summed(counts: np.ndarray) -> np.ndarray:
            return np.bincount(made.owner, weights=counts, minlength=rows).astype(np.int32)

        def of_owners(counts: np.ndarray) -> np.ndarray:
            return np.bincount(expansion.owners, weights=counts, minlength=rows).astype(np.int32)

        return cls(
            unit=np.where(examples > 0, unit, NOWHERE).astype(np.int32),
            first=(np.cumsum(examples) - examples).astype(np.int64),
            examples=examples.astype(np.int32),
            way=(made.way | RENDERED | np.where(checked, CHECKED, 0)).astype(np.int8),
            tried=summed(is_tried),
            unknown=summed(rendered.unspelt.anywhere),
            unknown_answers=summed(rendered.unspelt.answers),
            changed=summed(rendered.changed.anywhere),
            changed_answers=summed(rendered.changed.answers),
            printed=of_owners(expansion.examples),
            tokens=of_owners(expansion.tokens),
            once=of_owners(expansion.once),
        )

    @classmethod
    def joined(cls, parts: Sequence[Ledger]) -> Ledger:
        """Join the lines of some parts."""
        return cls(
            **{field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)}
        )

    def __len__(self) -> int:
        return len(self.unit)

    @property
    def is_rendered(self) -> np.ndarray:
        """Return bool [conversations]: those that are rendered."""
        return np.asarray((self.way & RENDERED) > 0)

    @property
    def is_turned(self) -> np.ndarray:
        """Return bool [conversations]: those that the template itself rendered."""
        return np.asarray((self.way & TURNED) > 0)

    def put(self, rows: np.ndarray, lines: Ledger) -> None:
        """Write lines in the places of some conversations."""
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(lines, field.name)

    def at(self, rows: np.ndarray) -> Ledger:
        """Return some lines, copied."""
        return Ledger(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def unchecked(self, sampled: np.ndarray) -> np.ndarray:
        """Return bool [conversations]: those that a build looks at which draws these, and that no build looked at
        before."""
        return np.asarray(self.checks(sampled) & ((self.way & CHECKED) == 0))

    def checks(self, sampled: np.ndarray) -> np.ndarray:
        """Return bool [conversations]: whose prompts a build looks at that draws these; those rendered one at a time
        apart."""
        return np.asarray(((self.way & PRINTED) > 0) & (((self.way & TELLING) > 0) | sampled))

    def examples_of(self, unit: int) -> np.ndarray:
        """Return int64, rising: the examples of a unit that conversations here have."""
        rows = np.flatnonzero(self.unit == unit)
        return np.sort(ragged(self.first[rows], self.examples[rows].astype(np.int64)))

    def write(self, path: Path, reasons: Mapping[int, str]) -> None:
        """Write the lines as one file, columns that hold nothing but 0 left out.

        Args:
            reasons: why conversations have no examples, by line.
        """
        import pyarrow as pa

        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        kept = {name: column for name, column in columns.items() if name in _ALWAYS or column.any()}
        table = pa.table({name: column_of(column) for name, column in kept.items()})
        if reasons:
            told = pa.array([reasons.get(line) for line in range(len(self))], type=pa.large_string())
            table = table.append_column(_REASON, told)
        write_table(path, table)


def read_ledger(path: Path) -> tuple[Ledger, dict[int, str]]:
    """Read the lines of a part, and the reasons of conversations without examples, by line.

    Raises: OSError, pyarrow.ArrowException where they cannot be read.
    """
    table = read_table(path)
    empty = Ledger.empty(table.num_rows)
    reasons = table[_REASON].to_pylist() if _REASON in table.column_names else []
    columns = {
        field.name: numbers(one_piece(table[field.name]))
        if field.name in table.column_names
        else getattr(empty, field.name)
        for field in fields(empty)
    }
    return Ledger(**columns), {line: reason for line, reason in enumerate(reasons) if reason is not None}


def report_of(ledger: Ledger, units: Sequence[str], sampled: np.ndarray) -> dict[str, Any]:
    """Sum the lines of a part to its report.

    Args:
        units: the parts that hold examples, as `Ledger.unit` counts them. sampled: as for `checks`, of this stage.
    """
    slow = int(ledger.is_turned.sum())
    expansion = {
        "conversations": int((ledger.printed > 0).sum()),
        "tokens": int(ledger.once.sum(dtype=np.int64)),
        "examples": int(ledger.printed.sum()),
        "example_tokens": int(ledger.tokens.sum(dtype=np.int64)),
    }
    return {
        "units": list(units),
        "prompts_checked": int(ledger.checks(sampled).sum()) + int(ledger.tried.sum()),
        "unknown": {"examples": int(ledger.unknown.sum()), "answers": int(ledger.unknown_answers.sum())},
        "tails_trimmed": int((((ledger.way & TAILED) > 0) & (ledger.examples > 0)).sum()),
        "normalized": {"examples": int(ledger.changed.sum()), "answers": int(ledger.changed_answers.sum())},
        **(
            {"fast_rows": int(ledger.is_rendered.sum()) - slow, "slow_rows": slow, "expansion": expansion}
            if slow
            else {}
        ),
    }
