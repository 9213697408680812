"""The grammar of `train_on`: which turns and which of their parts carry loss, of a dataset or a rule's examples."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from orca_recipes.contract.conditions import require_pattern
from orca_recipes.contract.trained_parts import TrainedParts
from orca_recipes.recipe.grammar import Grammar


def _on_or_off(said: object) -> object:
    if isinstance(said, int | float) and not isinstance(said, bool):
        raise ValueError(f"a part is trained (true) or it is not (false); there are no weights, and {said} is one")
    return said


def _readable(pattern: str) -> str:
    require_pattern("train_on", pattern)
    return pattern


Trained = Annotated[bool, BeforeValidator(_on_or_off)]
Pattern = Annotated[str, Field(min_length=1), AfterValidator(_readable)]


class TrainOn(Grammar):
    """Turns and parts of turns that carry loss; all others stay as context."""

    turns: Annotated[
        Literal["all", "last"], Field(description="all that the collection trains, or the last of them alone")
    ] = "all"
    reasoning: Annotated[Trained, Field(description="thoughts, with what closes them")] = True
    content: Annotated[Trained, Field(description="what is said")] = True
    tool_calls: Annotated[Trained, Field(description="calls of tools; their replies are never trained")] = True
    except_replies: Annotated[
        Pattern | None,
        Field(description="a pattern; an answer is context whose call got a reply that it is found in: a failed call"),
    ] = None
    except_answers: Annotated[
        Pattern | None, Field(description="a pattern; an answer is context in whose content it is found")
    ] = None

    @model_validator(mode="after")
    def _trains_something(self) -> "TrainOn":
        if not (self.reasoning or self.content or self.tool_calls):
            raise ValueError("no part is trained; leave one of reasoning, content and tool_calls on")
        return self

    @property
    def chooses_turns(self) -> bool:
        """Tell whether some answers that are trained otherwise stay untrained."""
        return self.turns != "all" or self.except_replies is not None or self.except_answers is not None

    def decisive(self) -> dict[str, Any]:
        """Return the options that decide the loss mask, with the revision of the split into parts."""
        return {"revision": 5, **self.model_dump(mode="json", exclude_none=True)}

    def parts(self) -> TrainedParts:
        """Return the trained parts."""
        return TrainedParts(self.reasoning, self.content, self.tool_calls)
