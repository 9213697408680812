"""An endpoint of a recipe: a server's address, its key, and its limits."""

from __future__ import annotations

import os
import re
from itertools import pairwise
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from orca_recipes.errors import TeacherError

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# How keys of OpenAI, Hugging Face, Groq, xAI, GitHub, NVIDIA, Google and others begin.
_KEY_PREFIX = re.compile(
    r"(?:sk|pk|rk|hf|gsk|xai|ghp|github_pat|glpat|nvapi|pplx|fw|tgp|r8)[-_][A-Za-z0-9_-]{12,}|AIza.{20,}"
    r"|A[KS]IA[A-Z0-9]{16}"
)
_LONG_FROM, _DIGITS_FROM = 24, 4
# Words of names of variables are shorter, and their digits stand together: GPT4O, LLAMA33, 2024.
_WORD_FROM, _CHANGES_FROM, _NO_WORD_FROM = 16, 4, 33
_RANDOM_FROM = 20


def begins_like_key(text: str) -> bool:
    """Tell whether a word of a text is written as keys of known services are."""
    return any(_KEY_PREFIX.fullmatch(word) for word in text.split())


def _looks_like_key(text: str) -> bool:
    """Tell whether a text looks like a secret: a known prefix, or long and mixed as no name is."""
    if _KEY_PREFIX.fullmatch(text) or any(_is_no_word(part) for part in text.split("_")):
        return True
    digits = sum(letter.isdigit() for letter in text)
    return len(text) >= _LONG_FROM and digits >= _DIGITS_FROM and text != text.upper() and text.isascii()


def _is_no_word(part: str) -> bool:
    """Tell whether a part of a variable's name, in whatever case, is longer or has more digits between than a word."""
    changes = sum(before.isdigit() != after.isdigit() for before, after in pairwise(part))
    return len(part) >= _NO_WORD_FROM or (len(part) >= _WORD_FROM and changes >= _CHANGES_FROM)


def _looks_random(text: str) -> bool:
    """Tell whether capitals, small letters and digits stand in a long text as no name has them: changing at every other
    place. Names of models change less, and ids of accounts have no capitals."""
    sorts = [(letter.isdigit(), letter.isupper()) for letter in text]
    changes = sum(before != after for before, after in pairwise(sorts))
    return len(text) >= _RANDOM_FROM and text.isalnum() and len(set(sorts)) == 3 and 2 * changes >= len(text)


class Endpoint(BaseModel):
    """One server, with its own limits: `{ base_url = "https://.../v1", key_env = "OPENAI_API_KEY" }`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    base_url: Annotated[str, Field(description="address up to and with /v1")] = "https://api.openai.com/v1"
    name: Annotated[str, Field(description="how records and the panel call it; unset, its host")] = ""
    key_env: Annotated[
        str | None, Field(description="environment variable that holds the key; unset, none is sent")
    ] = None
    weight: Annotated[float, Field(gt=0, description="its share of the questions where several are free")] = 1.0
    requests_per_minute: Annotated[int | None, Field(gt=0, description="never exceeded, in any minute")] = None
    input_tokens_per_minute: Annotated[int | None, Field(gt=0, description="never exceeded, as it counts them")] = None
    output_tokens_per_minute: Annotated[
        int | None, Field(gt=0, description="exceeded by at most what is in flight")
    ] = None
    concurrency: Annotated[int, Field(gt=0, description="most questions in flight; fewer after it says 429")] = 64

    idempotency_header: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$",
            description="header by which this server answers and bills one request once; unset, it has none",
        ),
    ] = None

    @field_validator("base_url")
    @classmethod
    def _is_an_address(cls, base_url: str) -> str:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("base_url must begin with http:// or https:// and name a host")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("base_url must hold no user, password, query or fragment; keys come from key_env")
        if any(_KEY_PREFIX.fullmatch(segment) or _looks_random(segment) for segment in parts.path.split("/")):
            raise ValueError("base_url holds in its path what looks like a key; keys come from key_env")
        return base_url.rstrip("/")

    @field_validator("key_env")
    @classmethod
    def _is_a_name(cls, key_env: str | None) -> str | None:
        if key_env is not None and (not _VARIABLE.fullmatch(key_env) or _looks_like_key(key_env)):
            raise ValueError(
                "key_env must be the name of an environment variable, as OPENAI_API_KEY, and this looks like something "
                "else; a key itself must stand in no recipe (one that did is to be replaced)"
            )
        return key_env

    def title(self) -> str:
        """Return its name in records and on the panel: `name`, or else its host."""
        return self.name or urlsplit(self.base_url).netloc

    def key(self) -> str | None:
        """Read the key from the environment, None where none is sent. Raises: TeacherError where the variable is not
        set or cannot be a key."""
        if self.key_env is None:
            return None
        key = os.environ.get(self.key_env, "").strip()
        if not key:
            raise TeacherError(
                f"environment variable {self.key_env} is not set: it holds the key of endpoint {self.title()}; "
                "export it and run the same command again"
            )
        if not key.isascii() or not key.isprintable():
            raise TeacherError(
                f"environment variable {self.key_env} holds characters that no key has; "
                "export the key alone, in one line"
            )
        return key
