"""The recipe's own words around the question.

Words are taken apart once, when the recipe is read; what rows hold is put between the pieces and never looked at again,
so a question that holds "{options}" is a question that holds these letters.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from orca_recipes.contract.kinds import Strategy
from orca_recipes.contract.messages import Turn, conversations_of, heading
from orca_recipes.contract.spelling import hint, quoted
from orca_recipes.errors import SourceError

if TYPE_CHECKING:
    import polars as pl

_ORDINALS = string.ascii_uppercase


class Instruct(Strategy):
    """Ask in words of the recipe: {question}, {options} and {name} of a column that the source keeps (`extra`).

        [strategies.in-my-words]
        kind = "instruct"
        system = "You are an examiner for {subject}."
        prompt = \"\"\"
        {question}

        {options}

        Name the letter of one option and say why.\"\"\"

    `{{` and `}}` are braces. Options are written one a line, as "(A) text". A row that lacks one of the columns is
    rejected. Once the prompt is erased, the student sees the question alone.
    """

    kind: Literal["instruct"] = "instruct"
    system: Annotated[str | None, Field(description="words after the system message")] = None
    prompt: Annotated[str, Field(min_length=1, description="what is asked, in place of the question")] = "{question}"

    @model_validator(mode="after")
    def _words_can_be_filled_in(self) -> Self:
        for option, text in (("system", self.system), ("prompt", self.prompt)):
            try:
                _pieces(text or "")
            except ValueError as fault:
                raise ValueError(f"{option}: {fault}") from fault
        if self.system is None and self.prompt == "{question}":
            raise ValueError('there are no words: give system or prompt, or use kind = "direct"')
        if "question" not in {name for _, name in _pieces(self.prompt)}:
            raise ValueError("prompt: it must hold {question}")
        return self

    def columns(self) -> tuple[str, ...]:
        """List the columns named in its words, other than the question."""
        named = {name for text in (self.system or "", self.prompt) for _, name in _pieces(text) if name is not None}
        return tuple(sorted(named - {"question"}))

    def ask(self, *, examples: pl.DataFrame) -> pl.Series:
        """Fill in the words for each example; null where a row lacks a value that they name.

        Raises: SourceError where no row has a column that the words name.
        """
        import polars as pl

        prompt = _filled(self.prompt, examples)
        words = _filled(self.system, examples) if self.system is not None else None
        system = heading(examples["system"])
        if words is not None:
            both = pl.concat_str(pl.lit(system), pl.lit(words), separator="\n\n", ignore_nulls=True)
            system = examples.select(both.alias("system"))["system"]
        sound = prompt.is_not_null() & (words.is_not_null() if words is not None else True)
        asked = conversations_of([Turn("system", heading(system)), Turn("user", prompt)])
        return pl.select(pl.when(sound).then(asked).alias("messages")).to_series()

    def teach(self, *, examples: pl.DataFrame, answers: pl.Series) -> pl.Series:
        """Build the student's conversation: its system message, the question, and the answer, which alone is
        trained."""
        turns = [Turn("system", heading(examples["system"])), Turn("user", examples["question"])]
        return conversations_of([*turns, Turn("assistant", answers, trained=True)])


def _pieces(text: str) -> list[tuple[str, str | None]]:
    """Part a text into pieces, each with the name that stands after it. Raises: ValueError for braces that hold no
    name."""
    found = []
    for before, name, form, conversion in string.Formatter().parse(text):
        if name is not None and (not name.strip() or form or conversion):
            raise ValueError("braces must hold a name and nothing else; write {{ and }} for braces themselves")
        found.append((before, name))
    return found


def _filled(text: str, examples: pl.DataFrame) -> pl.Series:
    """Fill in a text for each example: String [examples], null where it lacks a value."""
    import polars as pl

    parts: list[pl.Expr] = []
    for before, name in _pieces(text):
        parts.append(pl.lit(before))
        if name is not None:
            parts.append(_value(name, examples))
    return examples.select(pl.concat_str(parts).alias("text"))["text"] if examples.height else examples["question"]


def _value(name: str, examples: pl.DataFrame) -> pl.Expr:
    import polars as pl

    if name == "question":
        return pl.col("question")
    if name == "options":
        return pl.lit(_listed(examples["options"]))
    columns = examples["extra"].explode().drop_nulls().struct.unnest()
    if name not in columns["name"]:
        raise SourceError(
            f"strategy instruct names {{{name}}}, and the examples of task {quoted(str(examples['task'][0]))} have no "
            f"such column{hint(name, ['question', 'options', *columns['name'].unique()])}; sources keep it with "
            f"extra = [{quoted(name)}]"
        )
    field = pl.element().struct.field
    return pl.col("extra").list.eval(field("value").filter(field("name") == name)).list.first()


def _listed(options: pl.Series) -> pl.Series:
    """Write options one a line, each with its letter (a number after the last letter)."""
    import polars as pl

    count = int(options.list.len().fill_null(0).to_numpy().max(initial=0))
    if not count:
        return pl.Series([None] * len(options), dtype=pl.String)
    letters = [_ORDINALS[place] if place < len(_ORDINALS) else str(place + 1) for place in range(count)]
    lines = [
        pl.format(f"({letter}) {{}}", pl.col("options").list.get(place, null_on_oob=True))
        for place, letter in enumerate(letters)
    ]
    joined = pl.concat_str(lines, separator="\n", ignore_nulls=True)
    there = pl.col("options").list.len().fill_null(0) > 0
    return options.alias("options").to_frame().select(pl.when(there).then(joined).alias("text"))["text"]
