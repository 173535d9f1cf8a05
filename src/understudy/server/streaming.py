"""Answers in pieces, and noticing that nobody waits for them any more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from understudy.server.errors import ApiError, api_error

T = TypeVar("T")


class EventStream(Response):
    """Server-sent events, ended by ``[DONE]``, or by an error as the last one.

    ``events`` has begun with ``first``; it is closed as soon as the client leaves, and after
    ``seconds``.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        first: dict[str, Any],
        events: AsyncGenerator[dict[str, Any], None],
        seconds: float,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", **headers})
        del self.headers["content-length"]
        self._first, self._events, self._seconds = first, events, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        with suppress(ClientGone):
            await unless_gone(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        end = b""
        async with aclosing(self._events):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                async with asyncio.timeout(self._seconds):
                    await send(_body(self._first))
                    async for event in self._events:
                        await send(_body(event))
                end = b"data: [DONE]\n\n"
            except TimeoutError:
                await send(_body(too_late(self._seconds).body()))
            except Exception as error:  # noqa: BLE001  the status is gone: it is told as an event
                await send(_body(api_error(error).body()))
        await send({"type": "http.response.body", "body": end})


def _body(event: dict[str, Any]) -> dict[str, Any]:
    data = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    return {"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True}


def too_late(seconds: float) -> ApiError:
    """A request that took longer than it may."""
    return ApiError(
        504,
        f"not answered within {seconds:g} s; ask for less",
        type="server_error",
        code="timeout",
    )


class ClientGone(Exception):
    """Whoever asked does not wait any more."""


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Do the work; it is cancelled as soon as the client leaves. Raises ClientGone then."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
