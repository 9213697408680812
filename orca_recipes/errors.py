"""Define the faults shown to users, each with one sentence: where, what, what to do.

OrcaError                 shown without a traceback
├── UserError             exit status 2: something the user wrote, chose or handed over
│   ├── RecipeError       faults of a recipe, all of them at once
│   ├── PluginError       a kind that is missing, broken, ambiguous, or needs an extra package
│   ├── SourceError       a source's files cannot be read as asked
│   ├── Shortfall         more rows are asked for than there are
│   ├── MixtureError      a mixture that these collections cannot be drawn for, whatever their sizes
│   ├── RuleError         examples that no rule is for, or a rule whose pattern fits no task
│   ├── TokenizerError    a tokenizer that cannot be loaded or trusted
│   ├── TemplateError     a chat template that cannot be taken apart or masked
│   ├── TrainingError     a setting, phase or run that cannot be trained
│   ├── OverlongExample   an example longer than a row, where the recipe says `overlong = "error"`
│   ├── TeacherError      a teacher that cannot be asked: its key, its model or its account is refused
│   ├── BudgetSpent       the next question could cost more than `budget_usd` leaves
│   ├── LockError         the lock and the world differ, under --locked
│   ├── ModelError        an architecture or a folder of weights that the trainer cannot use
│   ├── LayoutError       a parallel layout that does not fit the model, the rows or the machine
│   ├── CheckpointError   a checkpoint that is not one, or belongs to another model or other data
│   ├── EngineError       a cluster that cannot be used as it is
│   ├── NoStore           a folder that is no store, and holds what is somebody's
│   ├── BucketError       an address of objects, its bucket or its credentials, that cannot be used
│   ├── ExportError       what a trainer cannot hold, or a folder that an export cannot take
│   └── BuildError        a build directory that is not one, or is in the way
└── Failure               exit status 1: the machine or the stored data failed
    ├── DamagedShard      a shard breaks a rule of the format
    ├── NonFiniteLoss     a loss or gradient that is no number any more
    ├── OutOfMemory       a model that a device's memory does not hold, or a limit of memory that is too low
    ├── PushError         an upload that a hub did not take to its end
    ├── StoreError        the store cannot be read or written
    ├── ObjectsError      an object store that does not answer, or an object that is not there
    └── TraceError        the trace store cannot be read or written
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class OrcaError(Exception):
    """A fault with a sentence for the user."""

    exit_status = 1


class UserError(OrcaError):
    exit_status = 2


class Failure(OrcaError):
    exit_status = 1


@dataclass(frozen=True)
class Fault:
    """One fault of a recipe: `<file>:<line>: <dotted.path>`, then what is wrong."""

    file: str
    line: int
    path: str
    sentence: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        head = f"{where}: {self.path}" if self.path else f"{where}:"
        return f"{head}\n  {self.sentence}"


class RecipeError(UserError):
    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is pickled as its class and its message; this one is made from faults.
        return (type(self), (self.faults,), self.__dict__)


class PluginError(UserError):
    pass


class SourceError(UserError):
    pass


class Shortfall(UserError):
    pass


class RuleError(UserError):
    pass


class MixtureError(UserError):
    pass


class TokenizerError(UserError):
    pass


class TemplateError(UserError):
    pass


class TrainingError(UserError):
    pass


class OverlongExample(UserError):
    pass


class TeacherError(UserError):
    pass


class BudgetSpent(UserError):
    pass


class TrustError(UserError):
    pass


class LockError(UserError):
    pass


class ModelError(UserError):
    pass


class LayoutError(UserError):
    pass


class CheckpointError(UserError):
    pass


class EngineError(UserError):
    pass


class NoStore(UserError):
    pass


class BucketError(UserError):
    pass


class ExportError(UserError):
    pass


class BuildError(UserError):
    pass


class DamagedShard(Failure):
    pass


class NonFiniteLoss(Failure):
    pass


class OutOfMemory(Failure):
    pass


class PushError(Failure):
    pass


class StoreError(Failure):
    pass


class ObjectsError(Failure):
    pass


class TraceError(Failure):
    pass
