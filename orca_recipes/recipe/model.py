"""The grammar of a recipe: frozen, strict models whose fields are the tables and options that people write.

What is here is what the rest of the compiler sees: a recipe in full, after bare names and everything that may be left
out were filled in (defaults.py), with kinds in place of their tables.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from orca_recipes.contract.comparison import Comparison
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
from orca_recipes.contract.training_tables import ModelChoice, PhaseTraining, Training
from orca_recipes.recipe.choice import choice
from orca_recipes.recipe.grammar import DatasetName, Grammar, Name, OneOrMore
from orca_recipes.recipe.mixtures import Mixture
from orca_recipes.recipe.required import Requires
from orca_recipes.recipe.rules import Rule, SystemMessages
from orca_recipes.recipe.train_on import TrainOn

PhaseWeight = Annotated[Decimal, Field(gt=0, max_digits=18, decimal_places=12)]


class Student(Grammar):
    """The student's view of the prompt."""

    erase: Annotated[
        bool, Field(description="show question and answer, and system_message in place of all that was asked beside")
    ] = False
    system_message: Annotated[
        str | None,
        Field(description='the generic system message: "set/id", or "set" to draw of a set; unset: none'),
    ] = None

    @model_validator(mode="after")
    def _erases_what_it_replaces(self) -> "Student":
        if self.system_message is not None and not self.erase:
            raise ValueError("system_message stands in place of what is erased; say erase = true")
        return self


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
    draw: Annotated[
        Literal["shared", "own"],
        Field(description="shared: an example gets the same system message in every dataset; own: drawn for this one"),
    ] = "shared"
    train_on: Annotated[
        TrainOn | None,
        Field(description="which turns and which parts of them are trained; all, if left out"),
    ] = None
    best_of: Annotated[
        int, Field(ge=1, le=100, description="answers asked for each example; the first that all filters keep is kept")
    ] = 1
    allow_empty: Annotated[
        tuple[str, ...],
        Field(description="collections (cot) and tasks (cot/aqua) all of whose rows may be lost; patterns with *, ?"),
    ] = ()
    unknown: Annotated[
        Literal["reject", "train"],
        Field(
            description="examples whose answer the vocabulary cannot spell: rejected, or trained with what it becomes"
        ),
    ] = "reject"

    @property
    def own_filters(self) -> tuple[Filter, ...]:
        """Return the filters that look at one conversation alone."""
        return tuple(kind for kind in self.filters if not isinstance(kind, Comparison))

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Return the filters that compare conversations; they are asked after the others."""
        return tuple(kind for kind in self.filters if isinstance(kind, Comparison))

    @property
    def comparisons_of_questions(self) -> tuple[Comparison, ...]:
        """Return the filters on questions alone; they run before answers are bought."""
        return tuple(found for kind in self.comparisons if (found := kind.of_questions()) is not None)


class Phase(Grammar):
    """One step of the curriculum: one dataset, or several, each whole or by weight."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["dataset"]}, {"required": ["datasets"]}],
            "not": {"required": ["epochs", "tokens"]},
        }
    )

    dataset: Annotated[str | None, Field(description="a table of [datasets]")] = None
    datasets: Annotated[
        tuple[str, ...] | Mapping[str, PhaseWeight] | None,
        Field(min_length=1, description="several, in place of dataset: a list of whole ones, or name = weight in rows"),
    ] = None
    epochs: Annotated[
        int | None, Field(ge=1, description="how often they are gone through; 1, where tokens is not given either")
    ] = None
    tokens: Annotated[int | None, Field(ge=1, description="go on until so many tokens, in place of epochs")] = None
    training: Annotated[
        PhaseTraining,
        Field(description="settings of this phase, over those of [training]: learning_rate, schedule"),
    ] = PhaseTraining()

    @model_validator(mode="after")
    def _says_one_thing(self) -> "Phase":
        if (self.dataset is None) == (self.datasets is None):
            raise ValueError("name either `dataset` or `datasets`, one of the two")
        if self.epochs is not None and self.tokens is not None:
            raise ValueError("give either `epochs` or `tokens`, not both")
        return self

    @property
    def weights(self) -> dict[str, str | None]:
        """Return its datasets, each with its weight as a decimal; None where it is gone through whole."""
        if isinstance(self.datasets, Mapping):
            return {name: format(weight, "f") for name, weight in self.datasets.items()}
        return dict.fromkeys(self.datasets or (str(self.dataset),))

    @property
    def passes(self) -> int | None:
        """Return its epochs, None where it goes by tokens."""
        return self.epochs or (1 if self.tokens is None else None)


class PaperMixture(Grammar):
    """A paper's figures for one mixture."""

    place: Annotated[str, Field(min_length=1, description="where the paper says so: section, table")]
    rows: Annotated[int | None, Field(ge=1, description="rows in all")] = None
    collections: Annotated[Mapping[str, int], Field(description="collection of the mixture to its rows")] = {}
    notes: Annotated[Mapping[str, str], Field(description="collection to why ours differs, or what the figure is")] = {}


class Paper(Grammar):
    """The publication that a recipe rebuilds, for `plan` to show its figures beside ours; it decides nothing."""

    title: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(min_length=1, description="where it is published, with its version")]
    mixtures: Annotated[Mapping[Name, PaperMixture], Field(min_length=1, description="figures by mixture")]


class Licenses(Grammar):
    """Licences allowed for a recipe's sources: names as collections say them; patterns with *, ?, [seq]; case does not
    count.

        [licenses]
        allow = ["apache-2.0", "cc-by-*"]
        share = "apache-2.0"
    """

    allow: Annotated[
        OneOrMore | None,
        Field(min_length=1, description="of the collections that datasets are drawn from; without it, any"),
    ] = None
    share: Annotated[
        OneOrMore | None,
        Field(min_length=1, description="of the collections whose files `archive` packs; without it, any"),
    ] = None


class Recipe(Grammar):
    """One recipe: instruction-tuning data from sources to packed shards."""

    name: Annotated[Name, Field(description="names the build's folder")]
    extends: Annotated[
        str | None,
        Field(description='a recipe that this one is laid over: a file beside it, "base.toml", or one of a package'),
    ] = None
    seed: Annotated[int, Field(description="decides every draw")] = 0
    requires: Annotated[Requires, Field(description="what must be installed, said before all else")] = Requires()
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
    licenses: Annotated[
        Licenses | None, Field(description="which licences collections may have that are drawn from, or packed")
    ] = None
    paper: Annotated[Paper | None, Field(description="the publication that this rebuilds, shown beside ours")] = None
    curriculum: Annotated[tuple[Phase, ...], Field(description="in which order datasets are trained on")] = ()
    model: Annotated[ModelChoice | None, Field(description="which model is trained on the build")] = None
    training: Annotated[Training | None, Field(description="how it is trained; flags of `train` override it")] = None

    def system_message_texts(self, names: Iterable[str]) -> dict[str, str]:
        """Look up system messages by name: "set/id" to text; "set" alone gives all of the set, in its order."""
        texts: dict[str, str] = {}
        for name in names:
            chosen, slash, key = name.partition("/")
            messages = self.system_messages[chosen].messages or {}
            texts |= {f"{chosen}/{known}": messages[known] for known in ([key] if slash else messages)}
        return texts

    def system_message_weights(self, names: Iterable[str]) -> tuple[int, ...]:
        """Return the sampling weight of each text of `system_message_texts`, in their order."""
        weights = []
        for name in self.system_message_texts(names):
            chosen, _, key = name.partition("/")
            weights.append(self.system_messages[chosen].weights.get(key, 1))
        return tuple(weights)

    def used_system_messages(self) -> tuple[str, ...]:
        """List the sets named by some rule or student, in recipe order."""
        names = [name for rule in self.rules for name in rule.system_messages]
        names += [dataset.student.system_message or "" for dataset in self.datasets.values()]
        used = {name.partition("/")[0] for name in names}
        return tuple(name for name in self.system_messages if name in used)

    def message_collections(self) -> tuple[str, ...]:
        """List the collections that hold texts of used system messages."""
        named = {self.system_messages[name].collection for name in self.used_system_messages()}
        return tuple(name for name in self.collections if name in named)
