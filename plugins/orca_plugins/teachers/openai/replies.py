"""The meaning of a server's reply: an answer, a question without one for good, another try, or the end of the run.

Servers word the same fault in many ways, so a reply that is not understood is tried again rather than believed. A
server's words are cleaned before a person sees them: they may hold terminal escapes (keys were masked in the bytes).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orca_plugins.teachers.openai.endpoint import Endpoint
from orca_plugins.teachers.openai.http import NoReply, Reply, parsed
from orca_recipes.contract.answers import CUT, EMPTY
from orca_recipes.contract.tool_calls import calls_told
from orca_recipes.errors import TeacherError

TOO_LONG = "context too long"
FILTERED = "content filter"
REFUSED = "refused by policy"
_REASONING = ("reasoning_content", "reasoning", "thinking")


@dataclass(frozen=True)
class Usage:
    """Tokens as the server counted them; None where it did not say, or said what cannot be."""

    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True)
class Answered:
    """A finished exchange; reason: why it holds no answer (then text is None); the rest as of `Answer`."""

    text: str | None
    finish_reason: str
    reason: str | None = None
    usage: Usage = Usage()
    model: str | None = None
    request_id: str | None = None
    reasoning: str | None = None
    tool_calls: str | None = None


@dataclass(frozen=True)
class Again:
    """To be tried again.

    busy: the server asks for less (429), which says nothing of the question; after: seconds that it asks for.
    billed: it may have been paid for, since the server was at work when the exchange broke.
    """

    kind: str
    busy: bool = False
    after: float | None = None
    billed: bool = False


@dataclass(frozen=True)
class Doubtful:
    """Refused, and the words do not tell whether the question or the recipe's options are at fault."""

    reason: str
    words: str


@dataclass(frozen=True)
class Useless:
    """No further request can succeed: the key, the model, the account or an option is refused."""

    sentence: str
    is_about_key: bool = False

    def fault(self, endpoint: Endpoint) -> TeacherError:
        """Build the error that stops a run, with what to do."""
        remedy = ""
        if self.is_about_key and endpoint.key_env is None:
            remedy = ": name the environment variable that holds its key as key_env"
        elif self.is_about_key:
            remedy = f": put a valid key into environment variable {endpoint.key_env}"
        return TeacherError(f"endpoint {endpoint.title()}: {self.sentence}{remedy}")


Outcome = Answered | Again | Doubtful | Useless


def read(reply: Reply | NoReply, *, body: Mapping[str, Any], input_bytes: int) -> Outcome:
    """Say what a reply means.

    Args:
        body: what was sent. input_bytes: of the question, to judge the server's counts by.
    """
    if isinstance(reply, NoReply):
        return Again(reply.kind, billed=reply.kind != "no connection")
    if reply.status != 200:
        return _refusal(reply)
    try:
        told = parsed(reply.body)
    except ValueError:
        return Again("broken JSON", billed=True)
    if not isinstance(told, dict):
        return Again("broken JSON", billed=True)
    if isinstance(told.get("error"), dict) and not told.get("choices"):
        code = told["error"].get("code")
        status = code if isinstance(code, int) and 400 <= code < 600 else 500
        return _refusal(Reply(status, reply.body, reply.request_id, reply.retry_after))
    return _completion(told, reply, body, input_bytes)


def cleaned(text: object, *, most: int = 200) -> str:
    """Shorten a server's words to one printable line."""
    line = str(text)
    if not line.isprintable():
        line = "".join(letter if letter.isprintable() else " " for letter in line[: 10 * most])
    line = " ".join(line.split())
    return line[:most] + ("..." if len(line) > most else "")


# --- answers ---------------------------------------------------------------------------------------------------------


def _completion(told: Mapping[str, Any], reply: Reply, body: Mapping[str, Any], input_bytes: int) -> Outcome:
    choices = told.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        return Again("empty choices", billed=True)
    text = _text(message.get("content"))
    finish = choice.get("finish_reason")
    finish = cleaned(finish, most=40) if isinstance(finish, str) and finish else "unknown"
    calls, fault = _calls(message)
    reason = _why_no_answer(message, text, finish, calls, fault)
    is_broken = fault is not None and reason is None  # cut in a call: no part of it is an answer
    model = told.get("model")
    return Answered(
        text=("" if is_broken else text or "") if reason is None else None,
        # A refusal may be cut as well; it is a rejection all the same, under any limit.
        finish_reason=finish if reason is None else reason,
        reason=reason,
        usage=_usage(told.get("usage"), text or "", body, input_bytes),
        model=cleaned(model) if isinstance(model, str) and model else None,
        request_id=None if reply.request_id is None else cleaned(reply.request_id),
        reasoning=_reasoning(message) if reason is None else None,
        tool_calls=calls if reason is None else None,
    )


def _reasoning(message: Mapping[str, Any]) -> str | None:
    """Return the thought before the text, under any of the names servers use; None if it is blank."""
    content = message.get("content")
    pieces = content if isinstance(content, list) else []
    inline = [piece.get("thinking") for piece in pieces if isinstance(piece, dict) and piece.get("type") == "thinking"]
    told = [*(message.get(name) for name in _REASONING), *inline]
    return next((text for text in map(_text, told) if text is not None and text.strip()), None)


def _calls(message: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the calls of a message (`calls_told`), and the reason why they are none; both None if nothing is
    called."""
    told = message.get("tool_calls")
    if not told:
        told = [{"function": message["function_call"]}] if message.get("function_call") else None
    if not told:
        return None, None
    try:
        return calls_told(told), None
    except ValueError as fault:
        return None, str(fault)


def _text(content: object) -> str | None:
    """Return the text of a message, None for none; pieces, as some servers give it in, are joined, and lone surrogates
    become the replacement character."""
    if isinstance(content, list):
        pieces = [piece.get("text") for piece in content if isinstance(piece, dict) and piece.get("type") == "text"]
        content = "".join(piece for piece in pieces if isinstance(piece, str)) if pieces else None
    if not isinstance(content, str):
        return None
    if content.isascii():
        return content
    return content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _why_no_answer(
    message: Mapping[str, Any], text: str | None, finish: str, calls: str | None, fault: str | None
) -> str | None:
    if finish == "content_filter":
        return FILTERED
    if message.get("refusal"):
        return REFUSED
    if fault is not None and finish != CUT:
        return fault
    is_answer = calls is not None or bool((text or "").strip())
    return None if is_answer or finish == CUT else EMPTY


def _usage(usage: object, text: str, body: Mapping[str, Any], input_bytes: int) -> Usage:
    """Return counts that can be: whole numbers, not more than bytes allow, and not none for a text."""
    if not isinstance(usage, dict):
        return Usage()
    read_tokens = _count(usage.get("prompt_tokens"), most=2 * input_bytes + 1000)
    details = usage.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens"), most=read_tokens or 0) if isinstance(details, dict) else None
    limit = body.get("max_tokens") or body.get("max_completion_tokens")
    written = _count(usage.get("completion_tokens"), most=limit if isinstance(limit, int) else 10_000_000)
    if written is not None and len(text) > 256 * written:
        written = None
    return Usage(read_tokens or None, cached, written)


def _count(value: object, *, most: int) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most else None


# --- refusals --------------------------------------------------------------------------------------------------------

_AGAIN = {408, 409, 425, 429}
_EMPTY_ACCOUNT = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "insufficient_balance"}
_FILTERED = {"content_filter", "content_policy_violation", "responsibleaipolicyviolation"}
_TOO_LONG = re.compile(
    r"context (length|size|window)|maximum context|too many tokens|prompt is too long|exceed_context", re.I
)
_NO_MODEL = re.compile(r"model.{0,80}(not exist|not found|unknown|invalid)|(unknown|invalid) model", re.I)


def _refusal(reply: Reply) -> Outcome:
    """Judge a reply of another status than 200, by that and by the error's code and words."""
    error = _error(reply.body)
    code = str(error.get("code") or "").lower()
    kind = str(error.get("type") or "").lower()
    words = cleaned(error.get("message") or "")
    said = f" ({words})" if words else ""
    if reply.status == 402 or {code, kind} & _EMPTY_ACCOUNT:
        return Useless(f"the account has no credit left{said}: top it up and run the same command again")
    if reply.status in _AGAIN or reply.status >= 500:
        return Again(str(reply.status), busy=reply.status == 429, after=reply.retry_after)
    if reply.status in (401, 403):
        return Useless(f"the key is refused{said}", is_about_key=True)
    if reply.status in (400, 404, 413, 422):
        return _bad_request(reply.status, code, kind, words, error)
    if 300 <= reply.status < 400:
        return Useless(f"the server redirects ({reply.status}): write the final address as base_url")
    return Useless(f"the server answers {reply.status}{said}: is base_url right?")


def _bad_request(status: int, code: str, kind: str, words: str, error: Mapping[str, Any]) -> Outcome:
    inner = error.get("innererror")
    inner_code = str(inner.get("code") or "").lower() if isinstance(inner, dict) else ""
    if {code, inner_code} & _FILTERED:
        return Answered(None, FILTERED, FILTERED)
    if code == "context_length_exceeded" or _TOO_LONG.search(f"{kind} {words}"):
        return Answered(None, TOO_LONG, TOO_LONG)
    if status == 413:
        return Answered(None, TOO_LONG, "question too large for the server")
    if code == "model_not_found" or _NO_MODEL.search(words):
        return Useless(f"the model is not known to the server ({words or code}): is its name right?")
    if status == 404:
        return Useless(f"the server has no such address ({words or '404'}): is base_url right, up to and with /v1?")
    param = error.get("param")
    if isinstance(param, str) and param and not param.startswith("messages"):
        return Useless(f"the server refuses {cleaned(param, most=40)} ({words or code}): change that option")
    return Doubtful(f"refused by the server ({status})", words or code or "no reason given")


def _error(body: bytes) -> Mapping[str, Any]:
    """Read the error table of a body, in the wordings of several servers; empty where there is none."""
    try:
        told = parsed(body)
    except ValueError:
        return {}
    if isinstance(told, list) and told:
        told = told[0]
    if not isinstance(told, dict):
        return {}
    error = told.get("error", told)
    if isinstance(error, str):
        return {"message": error, "code": told.get("code")}
    return error if isinstance(error, dict) else {}
