"""``/v1/chat/completions``: a chat with a student or a base, whole or as a stream.

Each choice is a row of its own in the engine, so choices and requests share forward passes; a row
is dropped when its client leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from understudy.models.protocol import Generation, Piece
from understudy.models.question import prompt
from understudy.project.serving import Served, Serving
from understudy.server.answers import Answer
from understudy.server.errors import bad
from understudy.server.guard import Limits
from understudy.server.models import find
from understudy.server.parameters import Asked, asked
from understudy.server.reading import json_body
from understudy.server.streaming import EventStream, unless_gone

Pieces = AsyncGenerator[tuple[int, Piece], None]


def routes() -> list[Route]:
    """Chatting."""
    return [Route("/v1/chat/completions", complete, methods=["POST"])]


async def complete(request: Request) -> Response:
    """Answer. 400 names the parameter that is wrong, 404 a model that is not there."""
    wish = asked(await json_body(request))
    serving: Serving = request.app.state.serving
    served = await find(serving, wish.model)
    if not served.answers:
        raise bad(f"{served.model} is there to be trained; there is nothing to ask before", "model")
    if served.remote:
        wish = _relayed(wish)
    answer, wanted = Answer(wish, served), _generations(wish, served, serving)
    if wish.stream:
        events = _chunks(answer, wish.choices, _pieces(serving, served, wanted))
        # What fails before the first word is told by a status, not inside the stream.
        first = await unless_gone(request.receive, anext(events))
        limits: Limits = request.app.state.limits
        return EventStream(first, events, limits.deadline_s, answer.headers)
    whole = await unless_gone(request.receive, _whole(serving, served, wanted))
    return JSONResponse(answer.whole(whole), headers=answer.headers)


def _generations(wish: Asked, served: Served, serving: Serving) -> list[Generation]:
    """What the engine is asked; the task's system message leads where the request has none."""
    brought = any(message.role == "system" for message in wish.messages)
    messages = wish.messages if brought else prompt(served.system_message, wish.messages)
    return wish.generations(messages, serving.place.settings.max_answer_tokens)


def _relayed(wish: Asked) -> Asked:
    """What a student at its host can be asked; choices are told apart by their seeds.

    Raises ApiError 400 for what is not passed on.
    """
    for param, asked_for in (
        ("logprobs", wish.top_logprobs is not None),
        ("top_p", wish.top_p != 1),
        ("response_format", wish.schema == {}),
    ):
        if asked_for:
            raise bad(f"{param} is not passed on to the host of this student", param)
    return replace(wish, seed=wish.seed or 0)


async def _whole(serving: Serving, served: Served, wanted: Sequence[Generation]) -> list[Piece]:
    """Every choice, as one piece each."""
    async with serving.opened(served) as model:
        tasks = [asyncio.create_task(model.write(one)) for one in wanted]
        try:
            return await asyncio.gather(*tasks)
        finally:
            await _cancelled(tasks)


async def _cancelled(tasks: Sequence[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _chunks(
    answer: Answer, choices: int, pieces: Pieces
) -> AsyncGenerator[dict[str, Any], None]:
    """The events of a stream, as the pieces come; none before the first of them."""
    last: dict[int, Piece] = {}
    async with aclosing(pieces):
        async for choice, piece in pieces:
            for index in range(0 if last else choices):
                yield answer.begin(index)
            last[choice] = piece
            for chunk in answer.chunks(choice, piece):
                yield chunk
    for chunk in answer.end([last[choice] for choice in range(choices)]):
        yield chunk


async def _pieces(serving: Serving, served: Served, wanted: Sequence[Generation]) -> Pieces:
    """The pieces of all choices, each with its choice, as they come."""
    async with serving.opened(served) as model:
        streams = [model.stream(one) for one in wanted]
        if len(streams) == 1:
            async with aclosing(streams[0]):
                async for piece in streams[0]:
                    yield 0, piece
            return
        queue: asyncio.Queue[tuple[int, Piece] | Exception | None] = asyncio.Queue()
        tasks = [
            asyncio.create_task(_into(queue, choice, stream))
            for choice, stream in enumerate(streams)
        ]
        try:
            open_streams = len(tasks)
            while open_streams:
                found = await queue.get()
                if isinstance(found, Exception):
                    raise found
                if found is None:
                    open_streams -= 1
                else:
                    yield found
        finally:
            await _cancelled(tasks)


async def _into(
    queue: asyncio.Queue[tuple[int, Piece] | Exception | None],
    choice: int,
    stream: AsyncGenerator[Piece, None],
) -> None:
    """Put a choice's pieces into the queue, and None or what went wrong behind them."""
    try:
        async with aclosing(stream):
            async for piece in stream:
                await queue.put((choice, piece))
    except Exception as error:  # noqa: BLE001  raised again by whoever reads the queue
        await queue.put(error)
    else:
        await queue.put(None)
