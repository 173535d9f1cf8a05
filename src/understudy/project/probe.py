"""Asking a teacher what works: its key, its address, its model, text, JSON, limits, cost.

Two calls of a few tokens, and as many more as it takes to learn what it wants otherwise. They go
through a ledger, so what is learned is remembered and what is spent is counted.
"""

from __future__ import annotations

import difflib
import json
import time
from typing import NamedTuple

from understudy import models
from understudy.errors import UnderstudyError
from understudy.example import Message
from understudy.models.address import address
from understudy.models.http import HttpEndpoint
from understudy.models.protocol import (
    CallFailed,
    Endpoint,
    Limits,
    Model,
    Quirks,
    Received,
    Reply,
    Request,
)
from understudy.models.terms import terms
from understudy.money import Price, usd
from understudy.project.paid import Say, with_models
from understudy.settings import Settings
from understudy.store.database import Database

MAX_TOKENS = 256
"""Enough for a model that thinks before it says one word."""
MOST_WAIT_S, MOST_CALL_S = 10.0, 60.0
SCHEMA = {
    "type": "object",
    "title": "answer",
    "properties": {"colour": {"type": "string"}},
    "required": ["colour"],
    "additionalProperties": False,
}


class Found(NamedTuple):
    """One thing that was tried; ``ok`` is None where it is only told."""

    name: str
    ok: bool | None
    told: str
    fix: str = ""


def probe(settings: Settings, database: Database, say: Say) -> list[Found]:
    """Try the teacher that ``settings`` name; a row for each thing, the first that fails the last.

    No error is raised for what does not work: it is a row with what to do.
    """
    settings = settings.model_copy(update=_patience(settings))
    step = "address"
    try:
        if not settings.teacher.startswith("practice:"):
            address(settings.teacher, offline=settings.offline)
        step = "price"
        endpoint, price = models.endpoint(settings.teacher, settings)
    except UnderstudyError as error:
        return [Found(step, False, error.what, error.fix)]
    watched = Watched(endpoint)
    found = [_key(watched, settings)]

    async def work(ledger: Model) -> None:
        listed = await _listed(watched, found)
        if listed is None:
            return
        spent: list[Reply] = []
        for name, ask in (("text", _text), ("JSON", _json)):
            try:
                found.append(await ask(ledger, watched, spent))
            except UnderstudyError as error:
                found.append(Found(name, False, error.what, _near(watched, listed) or error.fix))
                break
        found.extend(_told(watched, price, spent))

    with_models(database, settings, [(watched, price)], work, say)
    return found


def _patience(settings: Settings) -> dict[str, float]:
    """Whoever asks what works does not want to wait for minutes to hear that it does not."""
    return {
        "max_wait": min(settings.max_wait, MOST_WAIT_S),
        "timeout": min(settings.timeout, MOST_CALL_S),
    }


class Watched:
    """An endpoint that notes what passes through it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.inner = endpoint
        self.name = endpoint.name
        self.identity = endpoint.identity
        self.limits: Limits | None = None
        self.learned: list[str] = []

    @property
    def quirks(self) -> Quirks:
        """Those of the endpoint."""
        return self.inner.quirks

    @quirks.setter
    def quirks(self, quirks: Quirks) -> None:
        self.inner.quirks = quirks

    def prepare(self, request: Request) -> bytes:
        """The body to send."""
        return self.inner.prepare(request)

    async def send(self, body: bytes) -> Received:
        """Send once, noting limits and what is learned."""
        try:
            received = await self.inner.send(body)
        except CallFailed as error:
            self.limits = error.limits or self.limits
            if learned := getattr(error, "learned", ""):
                self.learned.append(learned)
            raise
        self.limits = received.limits or self.limits
        return received

    def read(self, raw: bytes) -> Reply:
        """Understand a stored body."""
        return self.inner.read(raw)

    async def close(self) -> None:
        """Let go of connections."""
        await self.inner.close()


def _key(watched: Watched, settings: Settings) -> Found:
    """Which key is sent, by the variable it came from, and where to."""
    if settings.teacher.startswith("practice:") or not isinstance(watched.inner, HttpEndpoint):
        return Found("key", True, "none needed")
    where = watched.inner.address
    if where.key:
        return Found("key", True, f"from {where.key_variable}, sent to {where.base_url} only")
    return Found("key", None if where.key_variable else True, "none is sent")


async def _listed(watched: Watched, found: list[Found]) -> list[str] | None:
    """Names that the endpoint lists, [] if it lists none; None if it cannot be used at all."""
    if not isinstance(watched.inner, HttpEndpoint):
        return []
    started = time.monotonic()
    try:
        listed = await watched.inner.models()
    except UnderstudyError as error:
        found.append(Found("address", False, error.what, error.fix))
        return None
    where, seconds = watched.inner.address, time.monotonic() - started
    found.append(Found("address", True, f"{where.base_url} answers, {seconds:.2f} s"))
    names = {name.removeprefix("models/") for name in listed}
    if where.model in names:
        found.append(Found("model", True, f"{where.model} is one of {len(listed)} that it lists"))
    elif not listed:
        found.append(Found("model", None, "it lists no models"))
    else:
        told = f"{where.model} is not one of the {len(listed)} that it lists"
        found.append(Found("model", None, told, _near(watched, listed)))
    return listed


def _near(watched: Watched, listed: list[str]) -> str:
    """Names to try instead of one that is not listed; empty if it is."""
    model = watched.inner.address.model if isinstance(watched.inner, HttpEndpoint) else ""
    if not listed or model in listed:
        return ""
    near = difflib.get_close_matches(model, listed, n=5, cutoff=0.4) or listed[:8]
    return f"It lists: {', '.join(near)}"


async def _text(ledger: Model, _: Watched, spent: list[Reply]) -> Found:
    reply = await ledger.complete(_request("Reply with the single word: ready"))
    spent.append(reply)
    return _answered("text", reply)


async def _json(ledger: Model, watched: Watched, spent: list[Reply]) -> Found:
    reply = await ledger.complete(_request("Name a colour, as JSON.", schema=True))
    spent.append(reply)
    how = {
        "json_schema": "by schema",
        "json_object": "as an object, the schema in the text",
        "text": "in the text",
    }[watched.quirks.json_mode]
    try:
        fits = isinstance(json.loads(reply.text)["colour"], str)
    except (ValueError, LookupError, TypeError, RecursionError):
        fits = False
    if fits:
        return Found("JSON", True, f"asked {how}: follows it")
    told = f"asked {how}: takes it, but answers {_shown(reply.text)}"
    return Found("JSON", None, told, "Every answer is checked; those that do not fit are rejected")


def _request(question: str, *, schema: bool = False) -> Request:
    """A call that is new each time: what was answered before is not what is asked."""
    return Request(
        (Message("user", question),),
        MAX_TOKENS,
        schema=SCHEMA if schema else None,
        schema_name="answer" if schema else "",
        sample=time.time_ns() // 1000,
        purpose="doctor",
    )


def _answered(name: str, reply: Reply) -> Found:
    counts = "tokens not told, so each call costs its worst case"
    if reply.input_tokens is not None and reply.output_tokens is not None:
        counts = f"{reply.input_tokens} tokens in, {reply.output_tokens} out"
    told = f"{_shown(reply.text)} in {reply.latency_s:.2f} s, {counts}"
    if reply.text.strip():
        return Found(name, True, told)
    fix = "Name another model"
    if reply.finish == "length":
        fix = "It thinks before it answers: raise max_answer_tokens"
    return Found(name, False, f"no answer within {MAX_TOKENS} tokens ({reply.finish})", fix)


def _told(watched: Watched, price: Price, spent: list[Reply]) -> list[Found]:
    """What was learned on the way."""
    rule = terms(watched.name)
    costs = [reply.cost_micro or 0 for reply in spent]
    calls = f"{usd(sum(costs))} for {len(costs)} call{'s' * (len(costs) != 1)}"
    rate = f"${price.usd_in}/${price.usd_out} per million tokens in/out, {price.source}"
    return [
        Found("quirks", True, _quirks(watched)),
        Found("limits", None, _limits(watched.limits)),
        Found("terms", None, str(rule)),
        Found("cost", True, f"{calls}; {rate}"),
    ]


def _quirks(watched: Watched) -> str:
    if watched.learned:
        return f"learned just now: it {'; '.join(dict.fromkeys(watched.learned))}"
    quirks = watched.quirks
    parts = [f"limit is {quirks.limit_name}", f"JSON by {quirks.json_mode}"]
    parts += [f"no {name}" for name in quirks.left_out]
    return f"{', '.join(parts)}; nothing new learned"


def _limits(limits: Limits | None) -> str:
    if limits is None:
        return "none told"
    pairs = (
        ("requests", limits.requests, limits.requests_left),
        ("tokens", limits.tokens, limits.tokens_left),
    )
    parts = []
    for unit, most, left in pairs:
        if most is not None:
            parts.append(f"{most:,.0f} {unit} a minute")
        if left is not None:
            parts.append(f"{left:,.0f} {unit} left")
    return ", ".join(parts) or "none told"


def _shown(text: str) -> str:
    short = " ".join(text.split())
    return repr(short if len(short) <= 40 else f"{short[:40]}...")
