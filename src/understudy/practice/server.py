"""The practice server: OpenAI-compatible (and Anthropic's API too), its models are programs.

    POST /v1/chat/completions      POST /v1/messages      GET /v1/models      GET /healthz
    /v1/files and /v1/batches, see ``batches.py``; /v1/fine_tuning/jobs, see ``tuning.py``

One server serves every task, by model name (``practice:dates`` or ``dates``). A call whose schema
is named spec, plan or inputs is answered with those of the task; any other with ``answer`` of the
last user message. How one request goes is in ``exchange.py``; the ways to fail are in
``refused.py``, ``spoiled.py`` and ``wires.py``.
"""

from __future__ import annotations

import asyncio
import hmac
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

from aiohttp import web
from aiohttp.typedefs import Handler

from understudy.errors import UsageError
from understudy.practice import TASKS, anthropic, batches, load, tuning_words
from understudy.practice.chat import ApiError, error_body, models_body
from understudy.practice.exchange import exchange
from understudy.practice.fine_tuned import NOVICE, fine_tuned
from understudy.practice.options import Options
from understudy.practice.provider import Provider

__all__ = ["Options", "Route", "app", "in_background", "listening"]

LOOPBACK = "127.0.0.1"
MOST_BODY = 8 * 1024 * 1024
MOST_WAITING = 4096
"""Connections that may wait to be accepted; systems cut it to what they allow."""


class Route(NamedTuple):
    """One thing that is served."""

    method: str
    path: str
    answer: Callable[[web.Request, Provider], Awaitable[web.StreamResponse]]
    """May raise ApiError."""
    error: Callable[[ApiError], dict[str, Any]] = error_body
    """The JSON in which its API says no."""


async def _models(_: web.Request, provider: Provider) -> web.StreamResponse:
    return web.json_response(models_body(fine_tuned(provider)))


async def _model(request: web.Request, provider: Provider) -> web.StreamResponse:
    name = request.match_info["id"]
    if name != NOVICE and name not in (*TASKS, *fine_tuned(provider)):
        raise ApiError(404, f"The model '{name}' does not exist", code="model_not_found")
    row = {"id": name, "object": "model", "created": 0, "owned_by": "understudy"}
    return web.json_response(row | {"shutdown_date": provider.options.tune_shutdown or None})


async def _health(_: web.Request, __: Provider) -> web.StreamResponse:
    return web.json_response({"status": "ok"})


ROUTES = (
    Route("POST", "/v1/chat/completions", exchange),
    Route("POST", anthropic.PATH, anthropic.answer, anthropic.error_body),
    Route("POST", "/inference/v1/chat/completions", exchange),
    Route("GET", "/v1/models", _models),
    Route("GET", "/v1/models/{id:.+}", _model),
    *(Route(*one) for one in tuning_words.OPENAI),
    *(Route(*one) for one in tuning_words.TOGETHER),
    *(Route(*one) for one in tuning_words.FIREWORKS),
    Route("GET", "/v1/files", batches.files),
    Route("POST", "/v1/files", batches.upload),
    Route("GET", "/v1/files/{id}", batches.file),
    Route("GET", "/v1/files/{id}/content", batches.content),
    Route("POST", "/v1/batches", batches.create),
    Route("GET", "/v1/batches", batches.batches),
    Route("GET", "/v1/batches/{id}", batches.batch),
    Route("POST", "/v1/batches/{id}/cancel", batches.cancel),
    Route("GET", "/healthz", _health),
)


def app(options: Options) -> web.Application:
    """Build the application. Raises SetupError if a task lacks a package."""
    for name in TASKS:
        load(name).answer("")  # tables are read now, not in the first call
    served = web.Application(client_max_size=MOST_BODY, middlewares=[_no_such_route])
    provider = Provider(options)
    for route in ROUTES:
        served.router.add_route(route.method, route.path, _handler(route, provider))

    async def close(_: web.Application) -> None:
        await provider.close()

    served.on_cleanup.append(close)
    return served


@asynccontextmanager
async def listening(options: Options, port: int = 0) -> AsyncIterator[str]:
    """Serve on loopback inside a running loop; gives the base URL, ending in ``/v1``.

    Raises UsageError if the port cannot be had.
    """
    runner = web.AppRunner(app(options), access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, LOOPBACK, port, backlog=MOST_WAITING).start()
        except OSError as error:
            raise UsageError(f"port {port}: {error.strerror}", "Choose another, or 0") from None
        yield f"http://{LOOPBACK}:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


@contextmanager
def in_background(options: Options) -> Iterator[str]:
    """Serve on loopback in a thread of its own while the block runs; gives the base URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="practice-server", daemon=True)
    thread.start()
    server = listening(options)
    try:
        url = asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
        try:
            yield url
        finally:
            asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _handler(route: Route, provider: Provider) -> Handler:
    """Check the key, answer, and say errors in the words of the route's API."""

    async def handler(request: web.Request) -> web.StreamResponse:
        try:
            if route.path.startswith("/v1/"):
                _check_key(request, provider.options.key)
            return await route.answer(request, provider)
        except ApiError as error:
            return web.json_response(route.error(error), status=error.status)

    return handler


@web.middleware
async def _no_such_route(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Say in JSON what aiohttp itself refuses: unknown paths and methods, bodies too large."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        said = ApiError(error.status, f"{request.method} {request.path}: {error.reason}")
        return web.json_response(error_body(said), status=error.status)


def _check_key(request: web.Request, key: str) -> None:
    """Compare ``Authorization: Bearer KEY`` or ``x-api-key: KEY``. Raises ApiError 401."""
    bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
    given = bearer or request.headers.get("x-api-key", "")
    if key and not hmac.compare_digest(given.encode(errors="replace"), key.encode()):
        raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key")
