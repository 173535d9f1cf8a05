"""Faults of the wire and of what stands between: replies that are torn, late, endless or no API's.

``WIRES`` says of each whether the request behind it is billed.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import NamedTuple

from aiohttp import web

from understudy.practice.options import Options

JSON = "application/json"
CUT_AFTER = 40
"""Bytes of the body before ``cut_body`` tears the wire, unless told otherwise."""
BOMB_BYTES = 200_000_000
"""What ``gzip_bomb`` unpacks to."""
HUGE_BYTES = 50_000_000
"""Length of the body of ``huge``."""
HEADER_BYTES = 1_000_000
"""Length of the header of ``headers``."""
MISSING_BYTES = 1000
"""Bytes that ``length_lie`` promises and does not send."""

_LOGIN_PAGE = "<!DOCTYPE html><html><title>Sign in</title><body><form>Password</form></body></html>"
_ERROR = b'{"error": {"message": "Provider returned error", "type": "server_error", "code": 502}}'
_CHUNK = 2**16


class Delivery(NamedTuple):
    """What is to be sent, and to whom."""

    request: web.Request
    body: bytes
    headers: Mapping[str, str]
    options: Options

    def whole(
        self, body: bytes | None = None, more: Mapping[str, str] | None = None
    ) -> web.Response:
        """Return a reply of 200 with this body of JSON, or another."""
        sent = self.body if body is None else body
        return web.Response(body=sent, content_type=JSON, headers={**self.headers, **(more or {})})

    async def begin(self, length: int) -> web.StreamResponse:
        """Send the headers of a reply whose body is sent piece by piece."""
        response = web.StreamResponse(headers=self.headers)
        response.content_type, response.content_length = JSON, length
        await response.prepare(self.request)
        return response

    def connected(self) -> bool:
        """Tell whether the client is still there."""
        wire = self.request.transport
        return wire is not None and not wire.is_closing()

    async def wait(self, seconds: float) -> None:
        """Wait, but not for a client that has left."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self.connected() and loop.time() < end:  # noqa: ASYNC110 - nothing tells that it left
            await asyncio.sleep(min(0.1, max(0.0, end - loop.time())))

    def reset(self) -> None:
        """Close with RST: SO_LINGER of zero seconds drops what is still to be sent."""
        wire = self.request.transport
        if wire is not None:
            linger = struct.pack("ii", 1, 0)
            wire.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            wire.abort()


class Wire(NamedTuple):
    """How a reply is sent, and whether the request is billed."""

    paid: bool
    send: Callable[[Delivery], Awaitable[web.StreamResponse]]


async def _whole(to: Delivery) -> web.StreamResponse:
    return to.whole()


async def _reset(to: Delivery) -> web.StreamResponse:
    to.reset()
    return web.Response()


async def _cut_body(to: Delivery) -> web.StreamResponse:
    response = await to.begin(len(to.body))
    cut = to.options.cut_bytes
    await response.write(to.body[: CUT_AFTER if cut is None else cut])
    to.reset()
    return response


async def _cut_json(to: Delivery) -> web.StreamResponse:
    cut = to.options.cut_bytes
    return to.whole(to.body[: len(to.body) // 2 if cut is None else cut])


async def _length_lie(to: Delivery) -> web.StreamResponse:
    response = await to.begin(len(to.body) + MISSING_BYTES)
    response.force_close()
    await response.write(to.body)
    return response


async def _drip(to: Delivery) -> web.StreamResponse:
    response = await to.begin(len(to.body))
    for place in range(len(to.body)):
        if not to.connected():
            break
        await response.write(to.body[place : place + 1])
        await asyncio.sleep(to.options.drip_seconds)
    return response


async def _hang(to: Delivery) -> web.StreamResponse:
    await to.wait(math.inf)
    return web.Response()


async def _slow_headers(to: Delivery) -> web.StreamResponse:
    await to.wait(to.options.hang_seconds)
    return to.whole()


async def _html(to: Delivery) -> web.StreamResponse:
    return web.Response(text=_LOGIN_PAGE, content_type="text/html", headers=to.headers)


async def _empty_body(to: Delivery) -> web.StreamResponse:
    return to.whole(b"")


async def _no_content(to: Delivery) -> web.StreamResponse:
    return web.Response(status=204, headers=to.headers)


async def _error_200(to: Delivery) -> web.StreamResponse:
    return to.whole(_ERROR)


async def _not_utf8(to: Delivery) -> web.StreamResponse:
    return to.whole(to.body.replace(b'"model"', b'"\xff\xfe": 0, "model"', 1))


async def _deep(to: Delivery) -> web.StreamResponse:
    return to.whole(b"[" * 200_000 + b"]" * 200_000)


async def _headers(to: Delivery) -> web.StreamResponse:
    return to.whole(more={"X-Padding": "x" * HEADER_BYTES})


async def _huge(to: Delivery) -> web.StreamResponse:
    start, end = b'{"choices": [{"message": {"content": "', b'"}, "finish_reason": "stop"}]}'
    response = await to.begin(HUGE_BYTES)
    await response.write(start)
    left = HUGE_BYTES - len(start) - len(end)
    while left and to.connected():
        piece = b"x" * min(left, _CHUNK)
        await response.write(piece)
        left -= len(piece)
    if to.connected():
        await response.write(end)
    return response


async def _gzip_bomb(to: Delivery) -> web.StreamResponse:
    bomb = await asyncio.to_thread(_bomb, BOMB_BYTES)
    return to.whole(bomb, {"Content-Encoding": "gzip"})


@cache
def _bomb(size: int) -> bytes:
    """Return that many zeros as gzip."""
    packer = zlib.compressobj(level=1, wbits=31)
    zeros = bytes(1_000_000)
    pieces = [packer.compress(zeros) for _ in range(size // len(zeros))]
    return b"".join([*pieces, packer.flush()])


WIRES = {
    "reset_before": Wire(False, _reset),
    "reset_after": Wire(True, _reset),
    "cut_body": Wire(True, _cut_body),
    "cut_json": Wire(True, _cut_json),
    "length_lie": Wire(True, _length_lie),
    "drip": Wire(True, _drip),
    "hang": Wire(True, _hang),
    "slow_headers": Wire(True, _slow_headers),
    "html": Wire(False, _html),
    "empty_body": Wire(True, _empty_body),
    "204": Wire(False, _no_content),
    "error_200": Wire(False, _error_200),
    "not_utf8": Wire(True, _not_utf8),
    "deep": Wire(True, _deep),
    "headers": Wire(True, _headers),
    "huge": Wire(True, _huge),
    "gzip_bomb": Wire(True, _gzip_bomb),
}
"""Kind of fault to how the reply is sent.

``reset_before``, ``reset_after``: torn before or after the work. ``cut_json``: half of it, as if it
were whole. ``drip``: byte by byte. ``hang``: no answer ever. ``slow_headers``: nothing for
``--hang-seconds``, then all. ``html``: a login page. ``error_200``: an error, with status 200.
``length_lie``: a Content-Length that never comes. ``deep``: JSON too deep for most parsers.
"""


async def deliver(kind: str, to: Delivery) -> web.StreamResponse:
    """Send the reply, or fail to in the way of ``kind``; other kinds send it whole."""
    send = WIRES[kind].send if kind in WIRES else _whole
    return await send(to)
