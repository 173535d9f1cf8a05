"""Endpoints with rate limits and their clients, played on a clock that jumps: hours in a second.

``play`` runs a coroutine on an event loop whose time moves only from timer to timer. ``Server`` is
what a provider does with a request; ``paced`` and ``fixed`` are workers of clients that go on
calling, the product's and one that does no more than wait as long as it is told.
"""

from __future__ import annotations

import asyncio
import math
import random
import selectors
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from understudy.models.protocol import Limits
from understudy.store.pace import Pace

T = TypeVar("T")


class _JumpingClock(selectors.SelectSelector):
    """Waits for nothing but the next timer, which is due at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("nothing is ready and no timer is set: a deadlock")
        self.now += max(0.0, timeout)
        return []


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes at no cost."""

    def __init__(self) -> None:
        self.clock = _JumpingClock()
        super().__init__(self.clock)

    def time(self) -> float:
        return self.clock.now


def play(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end on a loop of its own."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main)


class Bucket:
    """A token bucket, filled evenly, full at first."""

    def __init__(self, per_minute: float, capacity: float) -> None:
        self.per_minute = per_minute
        self.capacity = capacity
        self.level = capacity
        self._at: float | None = None

    def fill(self, now: float) -> None:
        if self._at is not None:
            self.level += (now - self._at) * self.per_minute / 60
        self.level = min(self.level, self.capacity)
        self._at = now

    def reset_s(self) -> float:
        return (self.capacity - self.level) * 60 / self.per_minute

    def change(self, now: float, per_minute: float, capacity: float) -> None:
        self.fill(now)
        self.per_minute, self.capacity = per_minute, capacity


class Window:
    """A fixed window of a minute, as gateways count."""

    def __init__(self, per_minute: float) -> None:
        self.per_minute = self.level = per_minute
        self._number = -1
        self._now = 0.0

    def fill(self, now: float) -> None:
        self._now = now
        if int(now // 60) != self._number:
            self._number, self.level = int(now // 60), self.per_minute

    def reset_s(self) -> float:
        return 60 - self._now % 60


class Response(NamedTuple):
    status: int
    limits: Limits | None
    retry_after_s: float | None
    tokens: int


@dataclass
class Server:
    """What an endpoint does. Refused requests cost nothing."""

    requests: Bucket | Window | None = None
    tokens: Bucket | None = None
    headers: bool = False
    retry_after: Callable[[float], float | None] = math.ceil
    """Seconds asked for, from the seconds until there is room again."""
    latency_s: float = 0.2
    refused_at_random: float = 0.0
    others_per_s: float = 0.0
    """Requests of another client of the same limit, evenly spread."""
    counts_at_admission: float | None = None
    """Tokens counted for each request, where they are not those used."""
    seed: int = 1
    hits: list[tuple[float, int]] = field(default_factory=list)
    """When a request arrived, and its status."""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._others_next: float | None = None

    async def send(self, tokens: int) -> Response:
        """Take a request that uses so many ``tokens``, through a network that jitters."""
        latency_s = self.latency_s * self._random.uniform(0.8, 1.2)
        await asyncio.sleep(0.05 * latency_s)
        response = self._admit(asyncio.get_running_loop().time(), tokens)
        self.hits.append((asyncio.get_running_loop().time(), response.status))
        await asyncio.sleep((0.95 if response.status == 200 else 0.15) * latency_s)
        return response

    def _admit(self, now: float, tokens: int) -> Response:
        counted = tokens if self.counts_at_admission is None else self.counts_at_admission
        wanted = [(b, n) for b, n in ((self.requests, 1.0), (self.tokens, counted)) if b]
        for bucket, _ in wanted:
            bucket.fill(now)
        self._others(now)
        short = [(b, n - b.level) for b, n in wanted if b.level < n - 1e-9]
        if short or self._random.random() < self.refused_at_random:
            wait_s = 1.0
            if short:
                wait_s = max(
                    b.reset_s() if isinstance(b, Window) else lack * 60 / b.per_minute
                    for b, lack in short
                )
            return Response(429, self._limits(), self.retry_after(wait_s), 0)
        for bucket, amount in wanted:
            bucket.level -= amount
        return Response(200, self._limits(), None, tokens)

    def _others(self, now: float) -> None:
        """Let the other client take its share up to now."""
        if not self.others_per_s or self.requests is None:
            return
        if self._others_next is None:
            self._others_next = now
        while self._others_next <= now:
            self._others_next += 1 / self.others_per_s
            if self.requests.level >= 1:
                self.requests.level -= 1

    def _limits(self) -> Limits | None:
        if not self.headers:
            return None
        told: list[float | None] = []
        for bucket in (self.requests, self.tokens):
            if bucket is None:
                told += [None, None, None]
            else:
                told += [bucket.per_minute, math.floor(bucket.level), bucket.reset_s()]
        return Limits(*told)

    def share_refused(self, since: float, until: float) -> float:
        statuses = [status for at, status in self.hits if since <= at < until]
        return statuses.count(429) / len(statuses) if statuses else 0.0

    def taken(self, since: float, until: float) -> int:
        return sum(status == 200 for at, status in self.hits if since <= at < until)


async def paced(pace: Pace, server: Server, until: float, estimate: int, used: int) -> None:
    """One worker that calls through a Pace, as the ledger does."""
    loop = asyncio.get_running_loop()
    tried = 0
    while loop.time() < until:
        turn = await pace.turn(estimate)
        try:
            response = await server.send(used)
        finally:
            pace.leave(turn)
        pace.heard(turn, response.limits)
        if response.status == 200:
            pace.answered(turn, used)
            tried = 0
            continue
        pace.refused(turn, response.retry_after_s)
        if response.retry_after_s:
            await pace.sit_out(turn)
        else:
            tried += 1
            await pace.back_off(tried)


async def fixed(server: Server, until: float, used: int) -> None:
    """One worker of a client that waits by itself as told, or else backs off with jitter."""
    loop = asyncio.get_running_loop()
    tried = 0
    while loop.time() < until:
        response = await server.send(used)
        if response.status == 200:
            tried = 0
            continue
        tried += 1
        backed_off_s = random.uniform(0, min(0.5 * 2**tried, 30))
        await asyncio.sleep(response.retry_after_s or backed_off_s)


@dataclass
class Played:
    """What came of it: shares of 1, after the first minute and in it."""

    used: float
    refused: float
    used_at_first: float
    refused_at_first: float
    hits: int


async def run(
    server: Server,
    *,
    workers: int = 64,
    seconds: float = 300,
    pace: Pace | None = None,
    allowed: Callable[[float, float], float] | None = None,
    estimate: int = 1000,
    used: int = 1000,
    warm_s: float = 60,
    during: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> Played:
    """Let workers call for so many simulated seconds; ``allowed(since, until)`` is in calls."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    end = start + seconds
    jobs = [
        paced(pace, server, end, estimate, used) if pace else fixed(server, end, used)
        for _ in range(workers)
    ]
    if during is not None:
        jobs.append(during())
    tasks = [asyncio.create_task(job) for job in jobs]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception) and not isinstance(error, asyncio.CancelledError):
            raise error
    warm = start + warm_s
    room = allowed or (lambda since, until: math.inf)
    return Played(
        server.taken(warm, end) / room(warm - start, seconds),
        server.share_refused(warm, end),
        server.taken(start, warm) / room(0, warm_s) if warm_s else 0.0,
        server.share_refused(start, warm),
        len(server.hits),
    )
