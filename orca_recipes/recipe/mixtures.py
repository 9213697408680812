"""The grammar of `[mixtures]`: how much of each collection, and how it is drawn.

An amount that is unclear is refused here, by the recipe's own words; whether there is so much is for the plan to say.
"""

from collections.abc import Mapping
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import Field, model_validator

from orca_recipes.recipe.grammar import Amount, Grammar, OneOrMore, Share

# Selections count copies in int16, which ends at 32,767.
MOST_REPEATS = 10_000


class Take(Grammar):
    """A mixture's amount of one collection, and how its rows are drawn.

    Exactly one amount: all, rows, share, per_task or per_category; under `draw = "proportional"` there may be none: the
    collection then gets its part of the mixture's rows by the rates of its tasks.
    """

    all: Annotated[Literal[True] | None, Field(description="every row of the collection")] = None
    rows: Annotated[int | None, Field(ge=1, description="this many rows")] = None
    share: Annotated[Share | None, Field(description="this part of the mixture's rows or tokens")] = None
    per_task: Annotated[int | None, Field(ge=1, description="at most this many rows of each task")] = None
    tasks: Annotated[OneOrMore, Field(description="only of these tasks: names or patterns with *, ?, [seq]")] = ()
    per_category: Annotated[int | None, Field(ge=1, description="at most this many rows of each category")] = None
    draw: Annotated[
        Literal["rows", "uniform_tasks", "proportional"],
        Field(
            description="rows: uniformly over rows; uniform_tasks: row by row from a task picked uniformly among those "
            "with rows left; proportional: from tasks by their rates (size, after cap and temperature)"
        ),
    ] = "rows"
    cap: Annotated[int | None, Field(ge=1, description="proportional: no task counts for more rows than this")] = None
    temperature: Annotated[
        Amount | None, Field(gt=0, description="proportional: rates to the power of 1 / temperature")
    ] = None
    repeat: Annotated[int, Field(ge=1, le=MOST_REPEATS, description="how often each row that is drawn stands")] = 1
    max_repeat: Annotated[
        int | None,
        Field(ge=1, le=MOST_REPEATS, description="where there is too little, repeat rows, each at most so often"),
    ] = None
    reserve: Annotated[
        Share | None, Field(description="draw this part more; the first that pass the filters are kept")
    ] = None
    allow_shortfall: Annotated[bool, Field(description="take what there is, where that is less")] = False

    def is_of_task(self, task: str) -> bool:
        """Tell whether rows of a task may be taken."""
        return not self.tasks or any(fnmatchcase(task, glob) for glob in self.tasks)

    @property
    def most(self) -> int:
        """Return the most copies of one row in the mixture."""
        return max(self.repeat, self.max_repeat or 1)

    @property
    def divides(self) -> bool:
        """Tell whether its amount is a part of the mixture's (a share, or by the rates of its tasks)."""
        return self.share is not None or self.is_by_rate

    @property
    def is_by_rate(self) -> bool:
        """Tell whether it has no amount of its own, so that the rates of its tasks decide its part."""
        return self.draw == "proportional" and self.share is None and self.rows is None

    @model_validator(mode="after")
    def _is_one_amount(self) -> "Take":
        amounts = [self.all, self.rows, self.share, self.per_task, self.per_category]
        given = sum(amount is not None for amount in amounts)
        if given > 1 or (given == 0 and self.draw != "proportional"):
            raise ValueError("take one of `all = true`, `rows`, `share`, `per_task` and `per_category`")
        if self.draw != "rows" and (self.all or self.per_task or self.per_category):
            raise ValueError(f'draw = "{self.draw}" draws `rows` or a `share`; leave it out, or say how many')
        if self.draw != "proportional" and (self.cap is not None or self.temperature is not None):
            raise ValueError('`cap` and `temperature` are for draw = "proportional"')
        return self

    @model_validator(mode="after")
    def _repeats_what_can_be_repeated(self) -> "Take":
        if self.max_repeat is not None and self.max_repeat < self.repeat:
            raise ValueError(f"max_repeat = {self.max_repeat} is less than repeat = {self.repeat}")
        if self.all and self.max_repeat is not None:
            raise ValueError("`all = true` asks for no more than there is; say `repeat` where it is to stand often")
        if self.all and self.reserve is not None:
            raise ValueError("`all = true` leaves nothing for a reserve; ask for a number of rows")
        return self


class Mixture(Grammar):
    """Named shares over collections, decided before anything is paid for.

    It takes of collections, or is a part of another mixture (`from`), or what another holds out (`holdout_of`).
    """

    take: Annotated[Mapping[str, Take], Field(min_length=1, description="how much of each collection")] = {}
    rows: Annotated[int | None, Field(ge=1, description="what shares are of; with `from`, rows taken of it")] = None
    tokens: Annotated[int | None, Field(ge=1, description="what shares are of: tokens, of what tokens_of says")] = None
    tokens_of: Annotated[
        Literal["question", "conversation", "trained"],
        Field(
            description="which tokens are counted: of the question and its system message, bare; of the whole "
            "conversation as it is packed; or of trained answers. The latter two need answers that exist already"
        ),
    ] = "question"
    from_: Annotated[str | None, Field(alias="from", description="another mixture that this is a part of")] = None
    exclude: Annotated[tuple[str, ...], Field(description="mixtures whose questions are left out, by content")] = ()
    duplicates: Annotated[
        Literal["first", "keep"],
        Field(description="a question of two collections belongs to the first in recipe order, or stays in both"),
    ] = "first"
    holdout: Annotated[
        int | None, Field(ge=1, description="rows set aside, drawn as the mixture is, for `holdout_of`")
    ] = None
    holdout_of: Annotated[str | None, Field(description="the mixture whose hold-out this is")] = None

    @model_validator(mode="after")
    def _comes_from_one_place(self) -> "Mixture":
        if [bool(self.take), self.from_ is not None, self.holdout_of is not None].count(True) != 1:
            raise ValueError("say one of `take.COLLECTION`, `from` and `holdout_of`")
        if self.from_ is not None and self.rows is None:
            raise ValueError("`from` needs `rows`: how many of the other mixture's")
        other = [name for name in ("rows", "tokens", "holdout") if getattr(self, name) is not None]
        other += ["exclude"] if self.exclude else []
        other += ["tokens_of"] if self.tokens_of != "question" else []
        allowed = {"rows", "exclude"} if self.from_ is not None else set() if self.holdout_of is not None else None
        if allowed is not None and (wrong := [name for name in other if name not in allowed]):
            raise ValueError(f"`{wrong[0]}` is for mixtures that take of collections")
        return self

    @model_validator(mode="after")
    def _is_divided_whole(self) -> "Mixture":
        if not self.take:
            return self
        if self.rows is not None and self.tokens is not None:
            raise ValueError("shares are of `rows` or of `tokens`, one of the two")
        if self.tokens is None and self.tokens_of != "question":
            raise ValueError("`tokens_of` says which tokens are counted; say how many: `tokens = N`, with shares")
        divided = [take for take in self.take.values() if take.divides]
        if divided and self.rows is None and self.tokens is None:
            raise ValueError("shares need what they are of: `rows = N` or `tokens = N`")
        if not divided and (self.rows is not None or self.tokens is not None):
            raise ValueError(f"`{'rows' if self.rows else 'tokens'}` is what shares are of, and no take has a share")
        if self.tokens is not None and any(take.draw == "uniform_tasks" for take in divided):
            raise ValueError('draw = "uniform_tasks" counts rows; give `rows` in place of `tokens`')
        if self.tokens is not None and any(take.reserve is not None for take in divided):
            raise ValueError("a `reserve` counts rows; give `rows` in place of `tokens`")
        if self.tokens is not None and any(take.is_by_rate for take in divided):
            raise ValueError("the part of a take without an amount is counted in rows; give it a `share`")
        return self._with_shares_that_sum(divided)

    def _with_shares_that_sum(self, divided: list[Take]) -> "Mixture":
        total = sum((take.share for take in divided if take.share is not None), Decimal(0))
        whole = all(take.share is not None for take in self.take.values())
        if total > 1:
            raise ValueError(f"the shares sum to {total}, which is more than 1")
        if whole and total != 1:
            raise ValueError(f"every collection takes a share, and the shares sum to {total}, not to 1")
        if total == 1 and any(take.is_by_rate for take in divided):
            raise ValueError("the shares sum to 1, which leaves nothing for the takes without an amount")
        return self
