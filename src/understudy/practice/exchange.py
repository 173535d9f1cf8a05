"""One request that may cost, from its arrival to its reply, in whatever API's words.

An API is a ``Dialect``: how it reads a request, writes a reply and says no. All else is the same
for all: number, limits, fault, work, bill, latency, reply.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from aiohttp import web

from understudy.practice.chat import (
    ApiError,
    Call,
    Completion,
    body_hash,
    complete,
    completion_body,
    error_body,
    understand,
)
from understudy.practice.faults import PAID, pick
from understudy.practice.fine_tuned import stands_for
from understudy.practice.limits import LIMIT, Limited, Standing, openai_headers, wait_headers
from understudy.practice.provider import Provider
from understudy.practice.refused import REFUSED, refusal, refusal_headers
from understudy.practice.spoiled import SHAPES, spoil
from understudy.practice.wavering import waver
from understudy.practice.wires import Delivery, deliver


class Dialect(NamedTuple):
    """How one API says what all APIs say."""

    understand: Callable[[object, Collection[str]], Call]
    """Body and refused parameters to a Call. Raises ApiError."""
    reply: Callable[[Call, Completion, int], dict[str, Any]]
    """The JSON of a reply, given the number of the request too."""
    error: Callable[[ApiError], dict[str, Any]]
    """The JSON of an error."""
    limit_headers: Callable[[Mapping[str, Standing]], dict[str, str]]
    shapes: Mapping[str, Callable[[dict[str, Any]], object]]
    """Kind of fault to what it does to the JSON of a reply, in place."""


OPENAI = Dialect(
    understand=understand,
    reply=completion_body,
    error=error_body,
    limit_headers=openai_headers,
    shapes=SHAPES,
)


class Outcome(NamedTuple):
    """What became of a request before anything is sent."""

    fault: str
    kind: str | None = None
    paid: bool = False
    input_tokens: int = 0
    output_tokens: int = 0
    reply: dict[str, Any] | None = None
    error: ApiError | None = None


async def exchange(
    request: web.Request, provider: Provider, dialect: Dialect = OPENAI
) -> web.StreamResponse:
    """Answer one request: note that it came, work, note what is billed, and only then reply.

    Raises ApiError if the body is not JSON; every other error is a reply.
    """
    arrived, n = provider.seconds(), next(provider.numbers)
    await asyncio.sleep(0)  # of requests that come together all are timed before any is worked on
    body = await json_of(request)
    outcome = work(body, n, arrived, provider, dialect)
    await account(body, n, arrived, outcome, provider)
    if outcome.kind:
        await provider.wait_until(arrived + provider.options.latency)
    headers = dialect.limit_headers(provider.standings())
    if outcome.error:
        return refuse(outcome.error, outcome.fault, headers, provider, dialect)
    raw = json.dumps(outcome.reply).encode()
    return await deliver(outcome.fault, Delivery(request, raw, headers, provider.options))


def work(body: object, n: int, arrived: float, provider: Provider, dialect: Dialect) -> Outcome:
    """Do what is asked for, or what the fault of the ``n``-th request makes of it."""
    options = provider.options
    fault = pick(options.faults, options.seed, n)
    try:
        asked, task = stands_for(body, provider)
        call = dialect.understand(asked, options.refused_parameters)
        if task is not None:
            call = replace(call, model=body["model"], task=task)  # type: ignore[index]
        provider.allowance.admit(call, arrived)
        done = complete(call, options.seed, options.repeat)
    except ApiError as error:
        return Outcome(LIMIT if isinstance(error, Limited) else fault, error=error)
    if fault in REFUSED:
        paid_in, paid_out = REFUSED[fault].bill(done)
        return Outcome(fault, call.kind, paid_in > 0, paid_in, paid_out, error=refusal(fault))
    done = spoil(fault, call, waver(call, done, options.waver, options.seed, n), n)
    reply = dialect.reply(call, done, n)
    if fault in dialect.shapes:
        dialect.shapes[fault](reply)
    if not PAID.get(fault, True):
        return Outcome(fault, call.kind, reply=reply)
    return Outcome(fault, call.kind, True, done.input_tokens, done.output_tokens, reply)


async def account(
    body: object,
    n: int,
    arrived: float,
    outcome: Outcome,
    provider: Provider,
    **marks: object,
) -> None:
    """Note that the ``n``-th request came and what is billed for it; return when it is on disk.

    ``marks`` are noted with it.
    """
    if provider.bill is None:
        return
    model = body.get("model") if isinstance(body, dict) else None
    entry = {"n": n, "t": round(arrived, 4), "body_sha256": body_hash(body), "model": model}
    entry |= marks
    provider.bill.add(entry | _line("received", Outcome(outcome.fault)))
    await provider.bill.write(entry | _line("answered", outcome))


def refuse(
    error: ApiError, fault: str, headers: Mapping[str, str], provider: Provider, dialect: Dialect
) -> web.Response:
    """Say an error in the words of ``dialect``, and with a 429 how long to wait."""
    more = refusal_headers(fault, provider.options)
    if isinstance(error, Limited) and provider.options.limit_headers:
        more = wait_headers(error.wait_s) | more
    return web.json_response(dialect.error(error), status=error.status, headers={**headers, **more})


async def json_of(request: web.Request) -> object:
    """Read the body. Raises ApiError if it is not JSON."""
    try:
        body: object = json.loads(await request.read())
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"The body is not JSON: {error}") from None
    return body


def _line(phase: str, outcome: Outcome) -> dict[str, Any]:
    return {
        "kind": outcome.kind,
        "phase": phase,
        "paid": outcome.paid,
        "input_tokens": outcome.input_tokens,
        "output_tokens": outcome.output_tokens,
        "fault": outcome.fault,
    }
