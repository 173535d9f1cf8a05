"""When the next call may go out, and whether at all: rate limits, the circuit breaker, a stop."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from understudy.errors import ProviderRefused, UnderstudyError

BREAKER = 20
"""Failures in a row after which the endpoint is given up."""
BACKOFF_S = 0.5
"""Longest first wait after a refusal that names none; doubled each time, with full jitter."""
BACKOFF_MOST_S = 30.0
_SLICE_S = 0.2
"""Longest sleep without a look at whether to stop."""


class Stopped(UnderstudyError):
    """No new call is sent any more: the user asked to stop."""

    exit_code = 130


class Pace:
    """Shared by all calls to one endpoint."""

    def __init__(self, max_wait_s: float) -> None:
        self.max_wait_s = max_wait_s
        self._stopping = False
        self._quiet_until = 0.0  # on the loop's monotonic clock
        self._failures: list[str] = []  # in a row

    def stop(self) -> None:
        """Let nothing new go out."""
        self._stopping = True

    async def turn(self) -> None:
        """Wait until a call may go out. Raises Stopped."""
        await self._sleep_until(self._quiet_until)
        if self._stopping:
            raise Stopped("stopped", "Run the same command to go on")

    def answered(self) -> None:
        """A usable reply came: failures before it do not count any more."""
        self._failures.clear()

    def failed(self, error: UnderstudyError) -> None:
        """Count a failure. Raises ProviderRefused when the circuit breaker opens."""
        self._failures.append(error.what)
        if len(self._failures) >= BREAKER:
            what, times = Counter(self._failures).most_common(1)[0]
            raise ProviderRefused(
                f"{len(self._failures)} calls in a row failed, {times} of them with: {what}",
                "Everything so far is saved; run the same command when it works again",
            )

    async def back_off(self, asked_s: float | None, tried: int) -> None:
        """Wait as the endpoint asks, and let every call wait so; or back off with full jitter.

        Raises ProviderRefused if it asks for more than ``max_wait_s``.
        """
        if asked_s is not None and asked_s > self.max_wait_s:
            raise ProviderRefused(
                f"the endpoint asks to wait {asked_s:.0f} s",
                "Run the same command then; everything so far is saved",
            )
        clock = asyncio.get_running_loop().time
        if asked_s:
            self._quiet_until = max(self._quiet_until, clock() + asked_s)
        else:
            most = min(BACKOFF_S * 2 ** min(tried, 10), BACKOFF_MOST_S)
            await self._sleep_until(clock() + random.uniform(0, most))

    async def _sleep_until(self, moment: float) -> None:
        clock = asyncio.get_running_loop().time
        while not self._stopping and (left := moment - clock()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(min(left, _SLICE_S))  # a stop is seen within a slice
