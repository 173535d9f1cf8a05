"""The practice server: an OpenAI-compatible server on loopback whose models are programs.

    POST /v1/chat/completions      GET /v1/models      GET /healthz

One server serves every task, by model name (``practice:dates`` or ``dates``). A call whose schema
is named spec, plan or inputs is answered with those of the task; any other with ``answer`` of the
last user message.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from understudy.errors import UsageError
from understudy.practice import TASKS, load
from understudy.practice.bill import Bill
from understudy.practice.chat import (
    ApiError,
    body_hash,
    complete,
    completion_body,
    models_body,
    understand,
)
from understudy.practice.faults import PAID, Faults, deliver, pick, refuse, spoil

LOOPBACK = "127.0.0.1"
MOST_BODY = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Options:
    """How the server behaves."""

    key: str = ""
    """If set, requests need ``Authorization: Bearer KEY``."""
    faults: Faults = ()
    latency: float = 0.0
    """Seconds before each reply."""
    refused_parameters: tuple[str, ...] = ()
    log: Path | None = None
    """File for the provider's own account, see ``bill.py``."""
    seed: int = 0
    retry_after: float = 0.05
    """Seconds, said with a 429."""
    drip_seconds: float = 0.1
    """Seconds between the bytes of the fault ``drip``."""


def app(options: Options) -> web.Application:
    """Build the application. Raises SetupError if a task lacks a package."""
    for name in TASKS:
        load(name).answer("")  # tables are read now, not in the first call
    served = web.Application(client_max_size=MOST_BODY, middlewares=[_errors(options)])
    numbers = count(1)
    bill = Bill(options.log) if options.log else None

    async def chat(request: web.Request) -> web.StreamResponse:
        return await _chat(request, next(numbers), options, bill)

    async def models(_: web.Request) -> web.Response:
        return web.json_response(models_body())

    async def healthy(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def close(_: web.Application) -> None:
        if bill:
            bill.close()

    served.router.add_post("/v1/chat/completions", chat)
    served.router.add_get("/v1/models", models)
    served.router.add_get("/healthz", healthy)
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
            await web.TCPSite(runner, LOOPBACK, port).start()
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


async def _chat(
    request: web.Request, n: int, options: Options, bill: Bill | None
) -> web.StreamResponse:
    """Answer one request: note that it came, work, note what is billed, and only then reply."""
    body = await _json_of(request)
    model = body.get("model") if isinstance(body, dict) else None
    entry = {"n": n, "body_sha256": body_hash(body), "model": model, "kind": None}
    entry |= {"phase": "received", "paid": False, "input_tokens": 0, "output_tokens": 0}
    fault = pick(options.faults, options.seed, n)

    async def note(**more: object) -> None:
        if bill:
            await bill.write({**entry, "fault": fault, **more})

    await note()
    try:
        call = understand(body, options.refused_parameters)
        if options.latency:
            await asyncio.sleep(options.latency)
        refuse(fault)
        done = spoil(fault, complete(call, options.seed))
    except ApiError:
        await note(phase="answered")
        raise
    paid = PAID.get(fault, True)
    spent = {"input_tokens": done.input_tokens, "output_tokens": done.output_tokens} if paid else {}
    await note(phase="answered", kind=call.kind, paid=paid, **spent)
    reply = completion_body(call, done, n, usage=fault != "no_usage")
    return await deliver(fault, request, json.dumps(reply).encode(), options.drip_seconds)


async def _json_of(request: web.Request) -> object:
    try:
        body: object = json.loads(await request.read())
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"The body is not JSON: {error}") from None
    return body


def _errors(options: Options) -> Middleware:
    """Return the middleware that checks the key and says every error as OpenAI's API does."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if options.key and request.path.startswith("/v1/"):
                _check_key(request, options.key)
            return await handler(request)
        except ApiError as error:
            wait = {"Retry-After": f"{options.retry_after:g}"} if error.status == 429 else {}
            return web.json_response(error.body, status=error.status, headers=wait)
        except web.HTTPException as error:
            said = ApiError(error.status, f"{request.method} {request.path}: {error.reason}")
            return web.json_response(said.body, status=error.status)

    return middleware


def _check_key(request: web.Request, key: str) -> None:
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if not hmac.compare_digest(given.encode(errors="replace"), key.encode()):
        raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key")
