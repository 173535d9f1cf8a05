"""What every request passes before any route: whose it is, how large, how many at once.

Every path and method but ``/healthz`` wants the token; whatever is not allowed here is refused, so
a route that is added later is closed by default. Pages in a browser on this machine are kept out by
the Host and Origin they cannot help sending.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from understudy.server.door import Door
from understudy.server.errors import UNFORESEEN, ApiError, api_error
from understudy.server.streaming import too_late

OPEN = "/healthz"
"""The one path that needs no token; it tells nothing."""
MIB = 1024**2
GRACE_S = 2.0
"""Seconds that a stream has beyond its deadline to say so."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server bears."""

    body: int = 8 * MIB
    """Bytes of a request's body."""
    bodies: Mapping[tuple[str, str], int] = field(
        default_factory=lambda: {("POST", "/v1/files"): 513 * MIB}
    )
    """Bytes of the body where a method and path take more."""
    body_s: float = 20.0
    """Seconds for a body to come in, and one more for each ``body_rate`` bytes that came."""
    body_rate: int = 64 * 1024
    in_flight: int = 256
    """Requests answered at once; those above are told to come back."""
    deadline_s: float = 600.0
    """Seconds for one request, from its head to the last byte of the answer."""
    headers_s: float = 10.0
    """Seconds for the head of a request."""


ENDING = ApiError(
    503,
    "the server was stopped before it could answer; ask again when it is back",
    type="server_error",
    code="stopped",
    headers={"Retry-After": "5"},
)


class Guard:
    """ASGI middleware around everything."""

    def __init__(self, app: ASGIApp, *, door: Door, limits: Limits) -> None:
        self._app, self._door, self._limits = app, door, limits
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or say no in OpenAI's shape."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        started, request_id = False, f"req_{secrets.token_hex(12)}"

        async def sending(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                named = (b"x-request-id", request_id.encode())
                message = {**message, "headers": [*message["headers"], named]}
            await send(message)

        try:
            self._check(scope)
            await self._answer(scope, receive, sending)
        except asyncio.CancelledError:
            if not started:  # the server ends, and has no time left for this one
                await ENDING.response()(scope, receive, sending)
            raise
        except Exception as error:
            told = api_error(error)
            if told.code == UNFORESEEN:
                _report(scope, request_id, error)
            if started:
                raise  # too late for words: the connection is closed
            await told.response()(scope, receive, sending)

    def _check(self, scope: Scope) -> None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        _check_site(headers, self._door)
        if scope["path"] != OPEN:
            _check_token(headers, self._door.token)
        most = self._most(scope)
        length = _one(headers, b"content-length")
        if length.isdecimal() and int(length) > most:
            raise _too_large(most)

    def _most(self, scope: Scope) -> int:
        return self._limits.bodies.get((scope["method"], scope["path"]), self._limits.body)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != OPEN and self._in_flight >= self._limits.in_flight:
            raise ApiError(
                429,
                f"{self._in_flight} requests are being answered, which is the most; try again",
                type="requests",
                code="rate_limit_exceeded",
                headers={"Retry-After": "1"},
            )
        self._in_flight += 1
        try:
            async with asyncio.timeout(self._limits.deadline_s + GRACE_S):
                await self._app(scope, _metered(receive, self._limits, self._most(scope)), send)
        except TimeoutError:
            raise too_late(self._limits.deadline_s) from None
        finally:
            self._in_flight -= 1


def _metered(receive: Receive, limits: Limits, most: int) -> Receive:
    """``receive`` that ends a body which is too large, or comes too slowly."""
    loop = asyncio.get_running_loop()
    began, came, whole = loop.time(), 0, False

    async def metered() -> Message:
        nonlocal came, whole
        if whole:
            return await receive()
        try:
            async with asyncio.timeout_at(began + limits.body_s + came / limits.body_rate):
                message = await receive()
        except TimeoutError:
            raise ApiError(
                408,
                f"the body did not come within {limits.body_s:g} s",
                code="request_timeout",
                headers={"Connection": "close"},
            ) from None
        came += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        if came > most:
            raise _too_large(most)
        return message

    return metered


def _too_large(most: int) -> ApiError:
    return ApiError(
        413,
        f"the body is larger than {most:,} bytes",
        code="request_too_large",
        headers={"Connection": "close"},
    )


def _check_site(headers: list[tuple[bytes, bytes]], door: Door) -> None:
    """Raises ApiError unless it was sent to this very server, and by no other site's page."""
    host = _one(headers, b"host")
    origin = _one(headers, b"origin", missing=f"http://{host}")
    fetched = _one(headers, b"sec-fetch-site", missing="none")
    if not door.names(host):
        raise _forbidden("the Host header does not name this server", "bad_host")
    if origin != f"http://{host}" or fetched not in ("none", "same-origin"):
        raise _forbidden("another site's page may not use this server", "bad_origin")


def _check_token(headers: list[tuple[bytes, bytes]], token: str) -> None:
    """Raises ApiError unless the token stands in the one Authorization header."""
    kind, _, given = _one(headers, b"authorization").partition(" ")
    right = hmac.compare_digest(given.strip().encode(), token.encode())
    if kind.lower() != "bearer" or not right:
        raise ApiError(
            401,
            "no valid token: send Authorization: Bearer TOKEN (in the SDK: api_key=TOKEN)",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )


def _one(headers: list[tuple[bytes, bytes]], name: bytes, missing: str = "") -> str:
    """The value of a header; one that comes twice with nothing in common counts as wrong."""
    values = [value.decode("latin-1") for key, value in headers if key == name]
    return missing if not values else values[0] if len(values) == 1 else "\0"


def _forbidden(message: str, code: str) -> ApiError:
    return ApiError(403, message, code=code)


def _report(scope: Scope, request_id: str, error: Exception) -> None:
    """Tell whoever runs the server what went wrong and where, but nothing that was said."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
    method, path = scope["method"], ascii(scope["path"])[1:-1][:80]
    sys.stderr.write(
        f"understudy: {request_id} {method} {path}: {type(error).__name__} at {where}\n"
    )
