"""Listening: uvicorn on a bound socket, until a signal.

The first Ctrl-C (or SIGTERM, or a hang-up) takes no new requests and lets those under way end for a
moment; a second one, whenever it comes, ends the process at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from understudy.project.paid import STOPPING, Interrupted
from understudy.server.guard import Limits

DRAIN_S = 2
"""Seconds that requests under way have to end after the first signal."""
KEEP_ALIVE_S = 75
"""Seconds that a connection may rest between two requests."""


class Stop:
    """What signals do, from the start of the command to its end."""

    def __init__(self) -> None:
        self.number = 0
        self.server: uvicorn.Server | None = None

    def install(self) -> None:
        """Take the signals; those that are ignored stay so (nohup, jobs in the background)."""
        for number in STOPPING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.number or self.server is None:
            # What is paid for or trained is on disk, and an exception could break an import.
            sys.stderr.write("understudy: stopped\n")
            sys.stderr.flush()
            os._exit(128 + (self.number or number))
        self.number = number
        self.server.should_exit = True


class _Server(uvicorn.Server):
    """uvicorn that says when it listens, and leaves the signals alone."""

    def __init__(self, config: uvicorn.Config, listens: Callable[[], None]) -> None:
        super().__init__(config)
        self._listens = listens

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listens()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def protocol(headers_s: float) -> type[asyncio.Protocol]:
    """HTTP/1.1 that does not wait for ever for the head of a request."""

    class Impatient(H11Protocol):
        _late: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._late = self.loop.call_later(headers_s, self._give_up)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._rest()  # the head is here
            elif self._late is None:
                self._late = self.loop.call_later(headers_s, self._give_up)

        def connection_lost(self, exc: Exception | None) -> None:
            self._rest()
            super().connection_lost(exc)

        def _rest(self) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None

        def _give_up(self) -> None:
            self.transport.abort()

    return Impatient


def server(app: Starlette, limits: Limits, listens: Callable[[], None]) -> uvicorn.Server:
    """A server that calls ``listens`` once it does; it ends after its ``should_exit`` is set."""
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=protocol(limits.headers_s),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )
    return _Server(config, listens)


def serve(
    app: Starlette, listener: socket.socket, stop: Stop, listens: Callable[[], None], limits: Limits
) -> None:
    """Serve until a signal; ``listens`` is called once it does. Raises Interrupted at the end."""
    _allow_many_connections()
    stop.server = server(app, limits, listens)
    if not stop.number:
        asyncio.run(stop.server.serve(sockets=[listener]))
    raise Interrupted(stop.number)


def _allow_many_connections() -> None:
    """Raise the soft limit of open files to the hard one: each connection is a file."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has no such limit
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
