"""Anthropic's messages API in front of the practice tasks: ``POST /v1/messages``.

Shapes are those of https://platform.claude.com/docs/en/api/messages, "Errors", "Rate limits" and
"Structured outputs". A request is put as a chat completion's and understood as one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from understudy.practice import chat
from understudy.practice.chat import ApiError, Call, Completion
from understudy.practice.exchange import Dialect, exchange
from understudy.practice.limits import Standing
from understudy.practice.provider import Provider
from understudy.practice.refusals import REFUSAL

PATH = "/v1/messages"

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_HUGE_COUNT = 10**12


def understand(body: object, refused: Collection[str] = ()) -> Call:
    """Read a request's body. Raises ApiError 400 if it is malformed, 404 for another model."""
    if not isinstance(body, dict):
        raise ApiError(400, "The body is not a JSON object.")
    if "max_tokens" not in body:
        raise ApiError(400, "max_tokens: Field required")
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise ApiError(400, "messages: Input should be a valid list")
    for place, turn in enumerate(messages):
        if not isinstance(turn, dict) or turn.get("role") not in ("user", "assistant"):
            raise ApiError(400, f"messages.{place}.role: Input should be 'user' or 'assistant'")
    put = dict(body)
    if body.get("system"):
        put["messages"] = [{"role": "system", "content": body["system"]}, *messages]
    schema = _schema(body)
    if schema is not None:
        named = {"name": schema.get("title"), "schema": schema}
        put["response_format"] = {"type": "json_schema", "json_schema": named}
    return chat.understand(put, refused)


def message_body(call: Call, done: Completion, n: int) -> dict[str, Any]:
    """Return the JSON of a message, the ``n``-th of this server."""
    name = hashlib.sha256(f"{n} {call.model}".encode()).hexdigest()[:24]
    return {
        "id": f"msg_{name}",
        "type": "message",
        "role": "assistant",
        "model": call.model,
        "content": [{"type": "text", "text": done.text}] if done.text else [],
        "stop_reason": _STOP_REASONS.get(done.finish, done.finish),
        "stop_sequence": None,
        "usage": {
            "input_tokens": done.input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": done.output_tokens,
        },
    }


def error_body(error: ApiError) -> dict[str, Any]:
    """Return the JSON of an error."""
    kind = _ERROR_TYPES.get(error.status, "api_error")
    if error.code == "insufficient_quota":
        kind = "billing_error"
    return {"type": "error", "error": {"type": kind, "message": error.message}}


def limit_headers(standings: Mapping[str, Standing]) -> dict[str, str]:
    """Write the headers that come with every reply; resets are moments, in RFC 3339."""
    headers = {}
    for unit, standing in standings.items():
        reset = datetime.now(UTC) + timedelta(seconds=standing.reset_s)
        headers[f"anthropic-ratelimit-{unit}-limit"] = str(standing.limit)
        headers[f"anthropic-ratelimit-{unit}-remaining"] = str(standing.left)
        headers[f"anthropic-ratelimit-{unit}-reset"] = f"{reset:%Y-%m-%dT%H:%M:%SZ}"
    return headers


def _schema(body: dict[str, Any]) -> dict[str, Any] | None:
    config = body.get("output_config")
    form = config.get("format") if isinstance(config, dict) else None
    if form is None:
        return None
    if not isinstance(form, dict) or form.get("type") != "json_schema":
        raise ApiError(400, "output_config.format.type: Input should be 'json_schema'")
    schema = form.get("schema")
    if not isinstance(schema, dict):
        raise ApiError(400, "output_config.format.schema: Field required")
    return schema


def _set(**more: object) -> Callable[[dict[str, Any]], object]:
    return lambda reply: reply.update(more)


def _usage(count: Callable[[int], object]) -> Callable[[dict[str, Any]], object]:
    return lambda reply: reply.update(usage={k: count(v) for k, v in reply["usage"].items()})


_TOOL_USE = {"type": "tool_use", "id": "toolu_1", "name": "answer", "input": {"text": "2024"}}

SHAPES: dict[str, Callable[[dict[str, Any]], object]] = {
    "null": _set(content=[]),
    "length_null": _set(content=[], stop_reason="max_tokens"),
    "refusal_field": _set(content=[{"type": "text", "text": REFUSAL}], stop_reason="refusal"),
    "tool_calls": _set(content=[_TOOL_USE], stop_reason="tool_use"),
    "finish_missing": lambda reply: reply.pop("stop_reason"),
    "choices_empty": _set(content=[]),
    "choices_null": _set(content=None),
    "model_other": _set(model="practice-mini-2020-01-01"),
    "no_usage": lambda reply: reply.pop("usage"),
    "usage_zero": _usage(lambda _: 0),
    "usage_negative": _usage(lambda count: -count - 1),
    "usage_text": _usage(str),
    "usage_huge": _usage(lambda _: _HUGE_COUNT),
}
"""Kind of fault to what it does to a message; ``two_choices`` and its like have no counterpart."""

ANTHROPIC = Dialect(
    understand=understand,
    reply=message_body,
    error=error_body,
    limit_headers=limit_headers,
    shapes=SHAPES,
)


async def answer(request: web.Request, provider: Provider) -> web.StreamResponse:
    """Answer one request to the messages API."""
    if not request.headers.get("anthropic-version"):
        raise ApiError(400, "anthropic-version: header is required")
    return await exchange(request, provider, ANTHROPIC)
