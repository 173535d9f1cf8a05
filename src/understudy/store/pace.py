"""When the next call to one endpoint may go out, and whether at all.

Three things hold a call back: the most that may be in flight, the pause that a refusal asked for,
and the rates of requests and tokens (limiter.py). Whoever waits stands in one queue; one timer
wakes its head. The clock is the event loop's, which no change of the time of day moves.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from understudy.errors import ProviderRefused, UnderstudyError
from understudy.models.protocol import Limits
from understudy.store.breaker import Breaker
from understudy.store.limiter import Meter, Probe

BACKOFF_S = 0.5
"""Longest first wait after a refusal that names none; doubled each time, with full jitter."""
BACKOFF_MOST_S = 30.0
FIRST_IN_FLIGHT = 256
"""Calls in flight before a reply came; one more for each reply (slow start, RFC 5681)."""
SAY_EVERY_S = 5.0
"""Seconds between two events of a kind."""
_MEASURE_S = 1.0


class Stopped(UnderstudyError):
    """No new call is sent any more: the user asked to stop."""

    exit_code = 130


class Turn:
    """Leave to send one call; ``sent_at`` is on the loop's clock."""

    __slots__ = (
        "again_at",
        "charged",
        "octave",
        "open",
        "requests_then",
        "sent_at",
        "tokens",
        "tokens_then",
    )

    def __init__(self, sent_at: float, tokens: int, charged: float) -> None:
        self.sent_at = sent_at
        self.tokens = tokens
        self.charged = charged
        self.octave: int | None = None  # of the rate
        self.open = True  # until it is left
        self.again_at = -math.inf  # refused: not to be sent again before, though others are
        self.requests_then = 0.0
        self.tokens_then = 0.0


class Pace:
    """Shared by all calls to one endpoint."""

    def __init__(
        self, *, concurrency: int, max_wait_s: float, say: Callable[..., None] | None = None
    ) -> None:
        self.concurrency = concurrency
        self.max_wait_s = max_wait_s
        self._say = say
        self._said: dict[str, float] = {}
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: deque[tuple[asyncio.Future[Turn], int]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._sleeping: set[asyncio.Future[None]] = set()
        self._in_flight = 0
        self._window = min(concurrency, FIRST_IN_FLIGHT)
        self._requests = Meter()
        self._tokens = Meter()
        self._probe = Probe()
        self._breaker = Breaker()
        self._token_share = 1.0  # tokens used of those estimated, moving average
        self._paused_until = -math.inf
        self._burst_at = -math.inf
        self._sent = 0
        self._mark = (math.nan, 0)  # a moment, and the calls sent until then
        self._older_mark = self._mark

    # Going out

    async def turn(self, tokens: int) -> Turn:
        """Wait until a call of so many ``tokens`` (input and output, estimated) may go out.

        First come, first served. Raises Stopped.
        """
        if self._stopping:
            raise _stopped()
        loop = asyncio.get_running_loop()
        if not self._queue and self._in_flight < self._window:
            now = loop.time()
            if self._requests.due <= now and self._tokens.due <= now:
                return self._go(now, tokens)
        self._loop = loop
        waiter: asyncio.Future[Turn] = loop.create_future()
        self._queue.append((waiter, tokens))
        self._let_go(loop)
        try:
            turn = await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.leave(waiter.result())  # let through and cancelled at the same time
            raise
        if self._stopping:  # let through and stopped at the same time
            self.leave(turn)
            raise _stopped()
        return turn

    def _go(self, now: float, tokens: int) -> Turn:
        turn = Turn(now, tokens, tokens * self._token_share)
        self._in_flight += 1
        self._sent += 1
        requests, used = self._requests, self._tokens
        requests.take(now, 1.0, self._probe.rate)
        used.take(now, turn.charged)
        turn.octave = self._probe.octave
        turn.requests_then, turn.tokens_then = requests.used, used.used
        if not now - self._mark[0] < _MEASURE_S:
            self._measure_from(now)
        return turn

    def _measure_from(self, now: float) -> None:
        if self._sent == 1:
            self._mark = (now, 0)
        moment, sent = self._mark
        seconds = now - moment
        sending = (self._sent - sent) / seconds if 0 < seconds < 2 * _MEASURE_S else math.inf
        self._probe.mark(now, sending)
        self._older_mark, self._mark = self._mark, (now, self._sent)

    def _let_go(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let through whoever may go now; set the timer for the next one."""
        now = loop.time()
        while self._queue and self._in_flight < self._window and not self._stopping:
            waiter, tokens = self._queue[0]
            if waiter.done():  # cancelled
                self._queue.popleft()
                continue
            due = max(self._requests.due, self._tokens.due)
            if due > now:
                self._wake_at(loop, due)
                return
            self._queue.popleft()
            if self._probe.rate < math.inf:
                self._probe.grow(min(1 / self._probe.rate, 1.0))
            waiter.set_result(self._go(now, tokens))

    def _wake_at(self, loop: asyncio.AbstractEventLoop, moment: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= moment:
                return  # it will look again
            self._timer.cancel()
        self._timer = loop.call_at(moment, self._wake, loop)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._let_go(loop)

    def leave(self, turn: Turn) -> None:
        """The exchange is over: its slot is free."""
        if turn.open:
            turn.open = False
            self._in_flight -= 1
            if self._queue:
                self._let_go(asyncio.get_running_loop())

    # What came back

    def heard(self, turn: Turn, limits: Limits | None) -> None:
        """Learn from what the endpoint says of its limits, with any status."""
        if limits is None:
            return
        told = (self._requests.told, self._tokens.told)
        self._requests.heard(
            limits.requests, limits.requests_left, turn.sent_at, turn.requests_then
        )
        self._tokens.heard(limits.tokens, limits.tokens_left, turn.sent_at, turn.tokens_then)
        if told != (self._requests.told, self._tokens.told):
            self._tell(
                "rates.limit", requests_per_minute=limits.requests, tokens_per_minute=limits.tokens
            )

    def answered(self, turn: Turn, tokens: int | None) -> None:
        """A usable reply came; ``tokens`` were used for it, if told."""
        self._breaker.answered()
        self._probe.taken(turn.octave)
        if self._window < self.concurrency:
            self._window += 1
        if tokens is not None and turn.tokens > 0:
            share = min(tokens / turn.tokens, 4.0)
            self._token_share += (share - self._token_share) / 50
            self._tokens.correct(tokens - turn.charged)

    def failed(self, error: UnderstudyError) -> None:
        """Count a failure. Raises ProviderRefused when the circuit breaker opens."""
        self._breaker.failed(error)

    def refused(self, turn: Turn, asked_s: float | None) -> None:
        """The endpoint is busy (HTTP 429, 503, 529): everybody waits as long as it asks.

        The first refusal of a burst lowers the rate: one to a call that was sent after the last
        time. Where calls are refused whatever the rate (``Probe.in_vain``), only this one waits
        (``sit_out``). Raises ProviderRefused if ``asked_s`` is more than ``max_wait_s``.
        """
        if asked_s is not None and asked_s > self.max_wait_s:
            raise ProviderRefused(
                f"the endpoint asks to wait {asked_s:.0f} s",
                "Run the same command then; everything so far is saved",
            )
        now = asyncio.get_running_loop().time()
        wait_s = max(asked_s or 0.0, 0.0)
        self._probe.refused(turn.octave)
        if turn.sent_at >= self._burst_at:
            self._burst_at = now
            before = self._probe.rate
            self._probe.cut(now, self._measured(now), wait_s)
            if self._probe.rate > before:
                self._mark = self._older_mark = (now, self._sent)
            elif self._probe.rate < before:
                per_minute = round(60 * self._probe.rate, 1)
                self._tell("rates.cut", requests_per_minute=per_minute, wait_s=wait_s)
        if self._probe.in_vain:
            turn.again_at = now + wait_s
        elif now + wait_s > self._paused_until:
            self._pause(now, now + wait_s)

    def _pause(self, now: float, until: float) -> None:
        """Nobody sends before; then at the rate, and not all at once."""
        self._probe.paused(until - max(now, self._paused_until))
        self._paused_until = until
        self._requests.hold(until)
        self._mark = self._older_mark = (until, self._sent)

    def _measured(self, now: float) -> float:
        """Calls sent a second, of late."""
        moment, sent = self._older_mark
        if now - moment < _MEASURE_S / 4 and self._probe.rate < math.inf:
            return self._probe.rate  # too little time to tell
        return (self._sent - sent) / max(now - moment, 1e-3)

    async def back_off(self, tried: int) -> None:
        """Wait a random time, longer the more often this call was tried. Raises Stopped.

        Full jitter: uniform between nothing and a time that doubles (Brooker, "Exponential
        Backoff and Jitter", AWS 2015).
        """
        most = min(BACKOFF_S * 2 ** min(tried, 10), BACKOFF_MOST_S)
        await self._sleep(random.uniform(0, most))

    async def sit_out(self, turn: Turn) -> None:
        """Wait as long as the refusal of this call asked, unless everybody does. Raises Stopped."""
        await self._sleep(turn.again_at - asyncio.get_running_loop().time())

    async def _sleep(self, seconds: float) -> None:
        if self._stopping:
            raise _stopped()
        if seconds <= 0:
            return
        loop = self._loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _finish, over)
        self._sleeping.add(over)
        try:
            await over
        finally:
            timer.cancel()
            self._sleeping.discard(over)

    # Stopping

    def stop(self) -> None:
        """Let nothing new go out; whoever waits gets Stopped. May be called from any thread."""
        self._stopping = True
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(self._dismiss)

    def _dismiss(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting: list[asyncio.Future[Any]] = [waiter for waiter, _ in self._queue]
        for waiter in (*waiting, *self._sleeping):
            if not waiter.done():
                waiter.set_exception(_stopped())
        self._queue.clear()

    def _tell(self, kind: str, **data: float | None) -> None:
        now = asyncio.get_running_loop().time()
        if self._say is not None and now - self._said.get(kind, -math.inf) >= SAY_EVERY_S:
            self._said[kind] = now
            self._say(kind, **data)


def _finish(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)


def _stopped() -> Stopped:
    return Stopped("stopped", "Run the same command to go on")
