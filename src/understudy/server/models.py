"""``/v1/models``: what this server answers as, and what each name stands for here."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from understudy.project.serving import Served, Serving
from understudy.server.errors import not_found


def routes() -> list[Route]:
    """Listing and looking up."""
    return [Route("/v1/models", list_models), Route("/v1/models/{id:path}", retrieve_model)]


async def list_models(request: Request) -> Response:
    """Every name, the runs first."""
    serving: Serving = request.app.state.serving
    names = await asyncio.to_thread(serving.served)
    return JSONResponse({"object": "list", "data": [body(served) for served in names]})


async def retrieve_model(request: Request) -> Response:
    """One name. 404 if there is no such model."""
    return JSONResponse(body(await find(request.app.state.serving, request.path_params["id"])))


async def find(serving: Serving, name: str) -> Served:
    """The model of that name. Raises ApiError 404."""
    served = await asyncio.to_thread(serving.find, name)
    if served is None:
        raise not_found(
            f"the model {ascii(name)[1:-1]!r} does not exist here; GET /v1/models lists them",
            code="model_not_found",
            param="model",
        )
    return served


def body(served: Served) -> dict[str, Any]:
    """A model as OpenAI tells it, and what the name stands for."""
    return {
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "understudy",
        "understudy_model": served.model,
    }
