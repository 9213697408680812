"""The grammar of `[system_messages]` and `[[rules]]`: what the teacher is told beside the question, and for which
examples.

A rule names messages by id alone, so a set can change where its texts come from and no rule changes with it.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from orca_recipes.contract.conditions import Where, parsed, told
from orca_recipes.contract.kind import Place
from orca_recipes.contract.spelling import hint, quoted
from orca_recipes.recipe.grammar import Grammar, OneOrMore
from orca_recipes.recipe.message_digests import DIGEST_RULE, is_digest
from orca_recipes.recipe.train_on import TrainOn

_TEXTS_IN: Mapping[str, tuple[tuple[frozenset[str], ...], frozenset[str]]] = {
    "inline": ((frozenset({"messages"}),), frozenset({"messages"})),
    "file": ((frozenset({"path"}),), frozenset({"path"})),
    "column": (
        (frozenset({"path", "hub", "collection"}), frozenset({"column"})),
        frozenset({"path", "hub", "collection", "revision", "column"}),
    ),
}
"""What a set of system messages needs (one of each), and what it may have, by kind."""


CHOSEN_BY = ("question", "answer", "system", "task", "category", "language", "reasoning", "messages")
"""Columns of examples that `where` of a rule names, beside those that a source keeps as they are ("extra.NAME")."""


def _digest(text: str) -> str:
    if not is_digest(text):
        raise ValueError(DIGEST_RULE)
    return text


class SystemMessages(Grammar):
    """A set of system messages with ids; a rule names one as "set/id", all of them as "set".

    Where their texts are not in the recipe itself, they are looked up while pinning; lock and plan hold digests alone.
    """

    kind: Annotated[
        Literal["inline", "file", "column"],
        Field(description="inline: in messages; file: a TOML file; column: the values of a data set's column"),
    ] = "inline"
    messages: Annotated[Mapping[str, str] | None, Field(min_length=1, description="inline: id to text")] = None
    path: Annotated[
        Place | None,
        Field(description="file: TOML with [messages]; column: Parquet or JSON lines (a file, a folder, a pattern)"),
    ] = None
    hub: Annotated[str | None, Field(description="column: a data set of the Hugging Face hub, OWNER/NAME")] = None
    revision: Annotated[str | None, Field(description="column: branch, tag or commit of the hub's data set")] = None
    collection: Annotated[
        str | None, Field(description="column: a collection of this recipe, read as its source says")
    ] = None
    column: Annotated[
        str | None, Field(min_length=1, description="column: its name; of a collection, one of ours or of its `extra`")
    ] = None
    digests: Annotated[
        Mapping[str, Annotated[str, AfterValidator(_digest)]],
        Field(description="id to SHA-256 of the text in UTF-8, which must match; with column they give the ids"),
    ] = {}
    weights: Annotated[
        Mapping[str, Annotated[int, Field(ge=1)]], Field(description="id to how often it is drawn; 1 if not given")
    ] = {}

    @model_validator(mode="after")
    def _says_where_the_texts_are(self) -> "SystemMessages":
        given = {
            name
            for name in ("messages", "path", "hub", "collection", "revision", "column")
            if getattr(self, name) is not None
        }
        wanted, allowed = _TEXTS_IN[self.kind]
        for name in sorted(given - allowed):
            raise ValueError(f'kind = "{self.kind}" takes no option "{name}"')
        for names in wanted:
            if not names & given:
                raise ValueError(f'kind = "{self.kind}" needs {" or ".join(sorted(names))}')
        if len(places := sorted({"path", "hub", "collection"} & given)) > 1:
            raise ValueError(f"{' and '.join(places)} both say where the column is; give one of them")
        if self.revision is not None and self.hub is None:
            raise ValueError("revision is one of the hub's, and hub is not given")
        return self


class When(Grammar):
    """Conditions of a rule: an example must meet all of them, each by one of its names; no condition matches
    everything."""

    collection: Annotated[OneOrMore, Field(description="names of collections")] = ()
    task: Annotated[OneOrMore, Field(description="patterns of tasks: *, ?, [seq], in exact case")] = ()
    category: Annotated[OneOrMore, Field(description="patterns of categories: *, ?, [seq], in exact case")] = ()
    language: Annotated[OneOrMore, Field(description="patterns of languages, as the source names them")] = ()
    reasoning: Annotated[OneOrMore, Field(description="patterns of the source's tags for reasoning")] = ()
    options: Annotated[bool | None, Field(description="whether the row has answers to choose from")] = None
    min_tokens: Annotated[int | None, Field(ge=1, description="least tokens of the question")] = None
    max_tokens: Annotated[int | None, Field(ge=1, description="most tokens of the question")] = None
    where: Annotated[
        Where,
        Field(
            description="what columns of the example hold, in the words of a collection's `where`: question (of a "
            "conversation what its user says last), answer (the one that ends it), "
            'system, task, category, language, reasoning, messages, "extra.NAME"'
        ),
    ] = None

    @model_serializer(mode="wrap")
    def _as_it_was_known(self, told: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Serialize all conditions, `where` only if it is set: rules without `where` keep their fingerprints."""
        table: dict[str, Any] = told(self)
        return {name: value for name, value in table.items() if name != "where" or value is not None}

    @model_validator(mode="after")
    def _looks_at_columns_that_there_are(self) -> "When":
        for name, sort in parsed(self.where).sorts().items() if self.where is not None else ():
            if name not in CHOSEN_BY and not name.startswith("extra."):
                raise ValueError(f"where: examples have no column {quoted(name)}{hint(name, CHOSEN_BY)}")
            if sort not in ("any", "text", "messages" if name == "messages" else "text"):
                raise ValueError(f"where: {name} of an example is text, and is compared with {told(sort)}")
        for condition in parsed(self.where).conditions() if self.where is not None else ():
            if condition.column == "messages" and condition.operation in ("eq", "in"):
                raise ValueError("where: messages are turns and no text; say turns, role or matches")
        return self

    @model_validator(mode="after")
    def _leaves_room(self) -> "When":
        if self.min_tokens is not None and self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens = {self.min_tokens} is above max_tokens = {self.max_tokens}")
        return self

    def may_match_collection(self, collection: str) -> bool:
        """Tell whether some example of a collection can meet the conditions."""
        return not self.collection or collection in self.collection

    @property
    def counts_tokens(self) -> bool:
        """Tell whether questions must be tokenized to evaluate the conditions."""
        return self.min_tokens is not None or self.max_tokens is not None


class Rule(Grammar):
    """Strategy and system messages for matching examples; the first rule that matches wins."""

    when: Annotated[When, Field(description="which examples; all, where it is left out")] = When()
    strategy: Annotated[str, Field(description="a table of [strategies], or a kind of strategy with its defaults")]
    system_messages: Annotated[
        tuple[str, ...], Field(description='"set/id", or "set" for all of a set; one is drawn for each example')
    ] = ()
    expand: Annotated[
        Literal["draw", "each"],
        Field(description="draw: one of the system messages; each: an example of its own for every one of them"),
    ] = "draw"
    train_on: Annotated[
        TrainOn | None,
        Field(description="which turns and parts of these examples are trained, in place of what the dataset says"),
    ] = None
    replace: Annotated[bool, Field(description="replace answers and system messages that rows bring")] = False
    allow_empty: Annotated[bool, Field(description="go on where all examples under this rule are rejected")] = False

    @model_validator(mode="after")
    def _expands_something(self) -> "Rule":
        if self.expand == "each" and not self.system_messages:
            raise ValueError('expand = "each" goes through system_messages, and there are none')
        return self
