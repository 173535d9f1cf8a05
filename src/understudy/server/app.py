"""The application: every route, behind the guard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from understudy.project.job_worker import Worker
from understudy.project.serving import Serving
from understudy.server import chat, files, jobs, models
from understudy.server.door import Door
from understudy.server.errors import ApiError
from understudy.server.guard import OPEN, Guard, Limits
from understudy.server.streaming import ClientGone

PARTS = (chat, models, files, jobs)
"""Modules whose ``routes()`` are served."""


def app(serving: Serving, door: Door, limits: Limits = Limits()) -> Starlette:  # noqa: B008 (frozen)
    """The server of one project; ``app.state`` has the serving and limits the routes work with."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        worker = Worker(serving.place)
        worker.start()
        yield
        await asyncio.to_thread(worker.stop)
        await serving.close()

    made = Starlette(
        routes=[Route(OPEN, _health), *(route for part in PARTS for route in part.routes())],
        middleware=[Middleware(Guard, door=door, limits=limits)],
        exception_handlers={
            HTTPException: _no_such_route,
            ApiError: _refuse,
            ClientGone: _gone,
            ClientDisconnect: _gone,  # in the middle of a body
        },
        lifespan=lifespan,
    )
    made.router.redirect_slashes = False
    made.state.serving, made.state.limits = serving, limits
    return made


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101  (what it is registered for)
    return error.response()


async def _gone(_: Request, __: Exception) -> Response:
    """Nobody reads it."""
    return Response(status_code=499)


async def _no_such_route(request: Request, error: Exception) -> Response:
    """Unknown paths and methods, in OpenAI's shape."""
    assert isinstance(error, HTTPException)  # noqa: S101  (what it is registered for)
    what = f"{request.method} {ascii(request.url.path)[1:-1]}"
    said = {404: f"unknown request URL: {what}", 405: f"not allowed: {what}"}
    message = said.get(error.status_code, error.detail)
    code = {404: "unknown_url", 405: "method_not_supported"}.get(error.status_code)
    return ApiError(error.status_code, message, code=code, headers=error.headers).response()
