"""The grammar of a recipe: frozen, strict models whose fields are the tables and options that people write.

What is here is what the rest of the compiler sees: a recipe in full, after bare names and everything that may be left
out were filled in (defaults.py), with kinds in place of their tables.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from orca_recipes.contract.kinds import (
    Engine,
    Filter,
    Packer,
    Source,
    Strategy,
    Teacher,
    Template,
    Tokenizer,
    Writer,
)
from orca_recipes.recipe.choice import choice

NAME_PATTERN = "^[A-Za-z0-9][A-Za-z0-9._-]*$"
_LONGEST_NAME = 100
NAME_RULE = (
    'names become folders: letters, digits, ".", "_" and "-", the first a letter or a digit, '
    f"at most {_LONGEST_NAME} in all"
)
_TAKEN_NAMES = frozenset({"tokenizer", "manifest.json", "curriculum.json"})


def is_name(text: str) -> bool:
    """Whether a text can name a table that becomes a folder or a file."""
    return re.fullmatch(NAME_PATTERN.strip("^$"), text) is not None and len(text) <= _LONGEST_NAME


def _name(text: str) -> str:
    if not is_name(text):
        raise ValueError(NAME_RULE)
    return text


def _dataset_name(text: str) -> str:
    if text.casefold() in _TAKEN_NAMES:
        raise ValueError(f"no dataset can have this name: a build's folder holds a {text.casefold()} of its own")
    return text


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


Name = Annotated[str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": NAME_PATTERN})]
DatasetName = Annotated[
    str,
    AfterValidator(_name),
    AfterValidator(_dataset_name),
    WithJsonSchema({"type": "string", "pattern": NAME_PATTERN}),
]
OneOrMore = Annotated[
    tuple[str, ...],
    Field(min_length=1),
    BeforeValidator(_as_tuple, json_schema_input_type=str | Annotated[tuple[str, ...], Field(min_length=1)]),
]


class Grammar(BaseModel):
    """A table of the grammar: frozen, strict, and without options that nobody knows."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", protected_namespaces=())


class Take(Grammar):
    """How much a mixture takes of a collection: everything, or this many rows."""

    all: Annotated[Literal[True] | None, Field(description="every row of the collection")] = None
    rows: Annotated[int | None, Field(ge=1, description="this many rows, drawn by key without replacement")] = None

    @model_validator(mode="after")
    def _takes_one_way(self) -> "Take":
        if (self.all is None) == (self.rows is None):
            raise ValueError("take either `all = true` or `rows = N`, one of the two")
        return self


class Mixture(Grammar):
    """Named shares over collections, decided before anything is paid for."""

    take: Annotated[Mapping[str, Take], Field(min_length=1, description="how much of each collection")]


class SystemMessages(Grammar):
    """A set of system messages with ids; a rule names one as "set/id", all of them as "set"."""

    messages: Annotated[Mapping[str, str], Field(min_length=1, description="id to text")]


class When(Grammar):
    """Which examples a rule is for: all conditions hold, each by one of its names; none at all matches everything."""

    collection: Annotated[OneOrMore, Field(description="names of collections")] = ()
    task: Annotated[OneOrMore, Field(description="patterns of tasks: *, ?, [seq], in exact case")] = ()
    category: Annotated[OneOrMore, Field(description="patterns of categories: *, ?, [seq], in exact case")] = ()

    def may_match_collection(self, collection: str) -> bool:
        """Whether some example of a collection can meet the conditions."""
        return not self.collection or collection in self.collection


class Rule(Grammar):
    """Which strategy and which system messages a task gets; the first rule that matches wins."""

    when: Annotated[When, Field(description="which examples; all, where it is left out")] = When()
    strategy: Annotated[str, Field(description="a table of [strategies], or a kind of strategy with its defaults")]
    system_messages: Annotated[
        tuple[str, ...], Field(description='"set/id", or "set" for all of a set; one is drawn for each example')
    ] = ()
    replace: Annotated[bool, Field(description="replace answers and system messages that rows bring")] = False


class Student(Grammar):
    """What the student sees of the prompt."""

    erase: Annotated[bool, Field(description="show system_message in place of the strategy's (prompt erasing)")] = False
    system_message: Annotated[str | None, Field(description='the generic system message: "set/id"')] = None


class Dataset(Grammar):
    """A mixture, a teacher, filters and a student's view: one dataset of packed shards."""

    mixture: Annotated[str, Field(description="a table of [mixtures]; the only one, where it is left out")]
    teacher: Annotated[str, Field(description="a table of [teachers], or a kind of teacher with its defaults")] = (
        "reference"
    )
    filters: Annotated[
        tuple[Annotated[Filter, choice(Filter)], ...], Field(description="what is kept, asked in this order")
    ] = ()
    student: Annotated[Student, Field(description="what the student sees of the prompt")] = Student()


class Phase(Grammar):
    """One step of the curriculum."""

    dataset: Annotated[str, Field(description="a table of [datasets]")]
    epochs: Annotated[int, Field(ge=1, description="how often it is gone through")] = 1


class Recipe(Grammar):
    """One recipe: instruction-tuning data from sources to packed shards."""

    name: Annotated[Name, Field(description="names the build's folder")]
    seed: Annotated[int, Field(description="decides every draw")] = 0
    collections: Annotated[
        Mapping[Name, Annotated[Source, choice(Source)]], Field(min_length=1, description="where examples come from")
    ]
    mixtures: Annotated[Mapping[Name, Mixture], Field(description="what is taken of the collections")]
    system_messages: Annotated[Mapping[Name, SystemMessages], Field(description="sets of system messages")] = {}
    strategies: Annotated[
        Mapping[Name, Annotated[Strategy, choice(Strategy)]], Field(description="how teachers are asked to reason")
    ] = {}
    rules: Annotated[tuple[Rule, ...], Field(description="which examples get which strategy; the first that matches")]
    teachers: Annotated[Mapping[Name, Annotated[Teacher, choice(Teacher)]], Field(description="who answers")] = {}
    datasets: Annotated[Mapping[DatasetName, Dataset], Field(description="what is built")]
    tokenizer: Annotated[Tokenizer, choice(Tokenizer)]
    template: Annotated[Template, choice(Template)]
    packing: Annotated[Packer, choice(Packer)]
    output: Annotated[Writer, choice(Writer)]
    engine: Annotated[Engine, choice(Engine)]
    curriculum: Annotated[tuple[Phase, ...], Field(description="in which order datasets are trained on")] = ()

    def system_message_texts(self, names: Iterable[str]) -> dict[str, str]:
        """The texts that names mean: "set/id" to text, where "set" alone means all of the set, in its order."""
        texts: dict[str, str] = {}
        for name in names:
            chosen, slash, key = name.partition("/")
            messages = self.system_messages[chosen].messages
            texts |= {f"{chosen}/{known}": messages[known] for known in ([key] if slash else messages)}
        return texts
