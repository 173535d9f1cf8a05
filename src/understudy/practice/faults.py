"""The ways in which a provider fails, on request, so that they can be rehearsed.

Which request is hit is settled by its number and the server's seed, so that a rehearsal repeats.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import struct
from collections.abc import Sequence

from aiohttp import web

from understudy.errors import UsageError
from understudy.practice.chat import ApiError, Completion, tokens

PAID = {
    "429": False,
    "429_quota": False,
    "500": False,
    "503": False,
    "html": False,
    "reset_before": False,
    "reset_after": True,
    "cut_body": True,
    "cut_json": True,
    "drip": True,
    "hang": True,
    "no_usage": True,
    "empty": True,
    "refusal": True,
    "length": True,
}
"""Kind of fault to whether a provider bills a request that met it.

429, 500, 503: refused, with Retry-After where it is 429. 429_quota: nothing left to spend. html:
a login page. reset_before, reset_after: the connection is torn before or after the work.
cut_body: torn after 40 bytes. cut_json: half the JSON, as if it were whole. drip: byte by byte.
hang: no answer ever. no_usage: tokens not told. empty, refusal: no answer in the text. length: half
an answer, cut by the model's own limit.
"""

NO_FAULT = ""
REFUSAL = "I'm sorry, I can't help with that."
CUT_AFTER = 40

_REFUSED = {
    "429": (429, "Rate limit reached, try again later.", "rate_limit_exceeded", "requests"),
    "429_quota": (
        *(429, "You exceeded your current quota, check your plan and billing details."),
        *("insufficient_quota", "insufficient_quota"),
    ),
    "500": (500, "The server had an error while processing your request.", None, "server_error"),
    "503": (503, "The engine is overloaded, try again later.", None, "server_error"),
}
_LOGIN_PAGE = "<!DOCTYPE html><html><title>Sign in</title><body><form>Password</form></body></html>"

Faults = Sequence[tuple[str, float]]
"""Kinds and their shares of all requests."""


def parse_fault(text: str) -> tuple[str, float]:
    """Read ``KIND:SHARE``, for example ``429:0.1``. Raises UsageError."""
    kind, _, share = text.partition(":")
    try:
        if kind in PAID and 0 <= float(share) <= 1:
            return kind, float(share)
    except ValueError:
        pass
    kinds = ", ".join(PAID)
    raise UsageError(f"fault {text!r} is not KIND:SHARE", f"Share is 0 to 1, kind one of: {kinds}")


def pick(faults: Faults, seed: int, n: int) -> str:
    """Choose the fault, or none, of the ``n``-th request."""
    digest = hashlib.sha256(f"{seed} {n}".encode()).digest()
    place = int.from_bytes(digest[:8]) / 2**64
    for kind, share in faults:
        if place < share:
            return kind
        place -= share
    return NO_FAULT


def refuse(kind: str) -> None:
    """Raise the ApiError of a fault that is an error of the API; other kinds pass."""
    if kind in _REFUSED:
        status, message, code, error_kind = _REFUSED[kind]
        raise ApiError(status, message, code=code, kind=error_kind)


def spoil(kind: str, done: Completion) -> Completion:
    """Put the fault into the text, where it belongs there."""
    if kind == "empty":
        return Completion("", "stop", done.input_tokens, tokens(""))
    if kind == "refusal":
        return Completion(REFUSAL, "stop", done.input_tokens, tokens(REFUSAL))
    if kind == "length":
        half = done.text[: len(done.text) // 2]
        return Completion(half, "length", done.input_tokens, tokens(half))
    return done


async def deliver(
    kind: str, request: web.Request, body: bytes, drip_seconds: float
) -> web.StreamResponse:
    """Send ``body``, or fail to in the way of ``kind``."""
    if kind == "html":
        return web.Response(text=_LOGIN_PAGE, content_type="text/html")
    if kind == "hang":
        while _connected(request):  # noqa: ASYNC110 - nothing tells when a client leaves
            await asyncio.sleep(0.02)
        return web.Response()
    if kind in ("reset_before", "reset_after"):
        return _reset(request, web.Response())
    if kind == "cut_json":
        body = body[: len(body) // 2]
    if kind not in ("cut_body", "drip"):
        return web.Response(body=body, content_type="application/json")
    response = web.StreamResponse()
    response.content_type, response.content_length = "application/json", len(body)
    await response.prepare(request)
    if kind == "cut_body":
        await response.write(body[:CUT_AFTER])
        return _reset(request, response)
    for place in range(len(body)):
        if not _connected(request):
            break
        await response.write(body[place : place + 1])
        await asyncio.sleep(drip_seconds)
    return response


def _connected(request: web.Request) -> bool:
    return request.transport is not None and not request.transport.is_closing()


def _reset(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Close with RST: SO_LINGER of zero seconds drops what is still to be sent."""
    if request.transport is not None:
        wire = request.transport.get_extra_info("socket")
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return response
