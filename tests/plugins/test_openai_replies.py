"""What replies of a server mean to teacher openai."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orca_plugins.teachers.openai.http import NoReply, Reply, seconds_to_wait
from orca_plugins.teachers.openai.replies import Again, Answered, Doubtful, Useless, cleaned, read

GOOD: dict[str, Any] = {
    "model": "m-0613",
    "choices": [{"message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
}


def meaning(told: object, status: int = 200, **more: Any) -> Any:
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    return read(Reply(status, body, **more), body={"max_tokens": 50}, input_bytes=40)


def with_message(finish: str | None = "stop", **message: Any) -> dict[str, Any]:
    return {**GOOD, "choices": [{"message": message, "finish_reason": finish}]}


def error(code: str | None = None, message: str = "", **more: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, **more}}


def test_an_answer_brings_its_usage_and_the_model_that_gave_it() -> None:
    found = meaning(GOOD, request_id="req_1")
    assert (found.text, found.finish_reason, found.reason, found.model) == ("Yes.", "stop", None, "m-0613")
    assert (found.usage.input_tokens, found.usage.cached_input_tokens, found.usage.output_tokens) == (9, 4, 2)
    assert found.request_id == "req_1"


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": -7, "completion_tokens": 3}, (None, 3)),
        ({"prompt_tokens": "many", "completion_tokens": 2.5}, (None, None)),
        ({"prompt_tokens": True, "completion_tokens": None}, (None, None)),
        ({"prompt_tokens": 10**9, "completion_tokens": 51}, (None, None)),
        ({"prompt_tokens": 9, "completion_tokens": 0}, (9, None)),
        ("no table", (None, None)),
        (None, (None, None)),
    ],
)
def test_usage_that_cannot_be_is_not_believed(usage: object, counts: tuple[int | None, int | None]) -> None:
    found = meaning({**GOOD, "usage": usage})
    assert (found.usage.input_tokens, found.usage.output_tokens) == counts
    assert found.text == "Yes."


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (with_message("content_filter", content=None), "content filter"),
        (with_message(content=None, refusal="I can't help."), "refused by policy"),
        (with_message(content=" \n"), "empty"),
        (with_message(content=None), "empty"),
        (with_message(content=[]), "empty"),
        (with_message(), "empty"),
        (with_message(content="", tool_calls=[{}]), "a tool call that names no function"),
        (with_message(content=None, tool_calls=[{}]), "a tool call that names no function"),
    ],
)
def test_an_exchange_without_an_answer_says_why(told: object, reason: str) -> None:
    found = meaning(told)
    assert isinstance(found, Answered)
    assert (found.text, found.reason) == (None, reason)


@pytest.mark.parametrize(
    ("status", "told", "reason"),
    [
        (400, error("context_length_exceeded", "too long", param="messages"), "context too long"),
        (400, error(None, "This model's maximum context length is 4096 tokens"), "context too long"),
        (400, error(400, "request (5031 tokens) exceeds", type="exceed_context_size_error"), "context too long"),  # type: ignore[arg-type]
        (422, {"error": "Input validation error: prompt is too long"}, "context too long"),
        (413, b"<html>too large</html>", "question too large for the server"),
        (400, error("content_filter", "The response was filtered"), "content filter"),
        (400, error("content_policy_violation"), "content filter"),
        (400, {"error": {"code": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, "content filter"),
    ],
)
def test_what_servers_refuse_a_question_for(status: int, told: object, reason: str) -> None:
    assert meaning(told, status).reason == reason


@pytest.mark.parametrize(
    ("status", "told", "words"),
    [
        (401, error("invalid_api_key", "Incorrect API key"), "the key is refused"),
        (403, error(), "the key is refused"),
        (402, error(None, "Payment required"), "no credit left"),
        (429, error("insufficient_quota", "You exceeded your quota"), "no credit left"),
        (429, error(None, "", type="insufficient_quota"), "no credit left"),
        (404, error("model_not_found"), "the model is not known"),
        (404, error(None, "The model `x` does not exist"), "the model is not known"),
        (404, b"404 page not found", "base_url"),
        (400, error("invalid_value", "must be at most 2", param="temperature"), "refuses temperature"),
        (307, b"", "redirects"),
        (418, b"", "answers 418"),
    ],
)
def test_what_makes_asking_on_useless(status: int, told: object, words: str) -> None:
    found = meaning(told, status)
    assert isinstance(found, Useless)
    assert words in found.sentence


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 529])
def test_what_may_pass_is_tried_again(status: int) -> None:
    found = meaning(b"<html>", status, retry_after=3.0)
    assert found == Again(str(status), busy=status == 429, after=3.0)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>502</html>", "broken JSON"),
        (json.dumps(GOOD).encode()[:-9], "broken JSON"),
        (b"[" * 100_000, "broken JSON"),
        (b"3", "broken JSON"),
        (b"\xff\xfe\x00", "broken JSON"),
        (json.dumps({**GOOD, "choices": []}).encode(), "empty choices"),
        (json.dumps({**GOOD, "choices": [{"message": None}]}).encode(), "empty choices"),
    ],
)
def test_replies_that_make_no_sense_are_tried_again_and_may_be_billed(body: bytes, kind: str) -> None:
    assert meaning(body) == Again(kind, billed=True)


def test_an_error_in_a_good_reply_counts_as_its_code_says() -> None:
    assert meaning({"error": {"code": 502, "message": "upstream"}}) == Again("502")
    assert meaning({"error": {"code": "weird"}}) == Again("500")
    assert isinstance(meaning({"error": {"code": 402}}), Useless)


def test_a_refusal_that_does_not_say_what_it_is_about_is_doubtful() -> None:
    assert meaning(error(None, "Bad request"), 400) == Doubtful("refused by the server (400)", "Bad request")


def test_no_reply_may_be_billed_unless_nothing_was_sent() -> None:
    assert read(NoReply("timeout"), body={}, input_bytes=0) == Again("timeout", billed=True)
    assert read(NoReply("no connection"), body={}, input_bytes=0) == Again("no connection")


def test_content_in_pieces_is_joined_and_lone_surrogates_are_replaced() -> None:
    pieces = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]
    assert meaning(with_message(content=pieces)).text == "ab"
    found = meaning(b'{"choices":[{"message":{"content":"x\\ud800y"},"finish_reason":"stop"}]}').text
    assert found == "x\ufffdy"


def test_words_of_a_server_are_one_short_printable_line() -> None:
    assert cleaned("\x1b[31mred\x1b[0m\n\u202etext") == "[31mred [0m text"
    assert len(cleaned("x" * 10_000)) < 210


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:16:50 GMT"}, 10.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "1e9"}, 86_400.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert seconds_to_wait(headers, now=1000.0) == seconds


@given(st.binary(max_size=200), st.integers(100, 599))
def test_any_bytes_under_any_status_mean_something(body: bytes, status: int) -> None:
    assert isinstance(meaning(body, status), (Answered, Again, Doubtful, Useless))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "message", "content", "error", "code", "usage", "finish_reason", "type", "text"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(json_values, st.sampled_from([200, 400, 401, 404, 429, 500]))
def test_any_json_under_any_status_means_something(told: object, status: int) -> None:
    found = meaning(told, status)
    assert isinstance(found, (Answered, Again, Doubtful, Useless))
    if isinstance(found, Answered):
        assert (found.text is None) == (found.reason is not None)
