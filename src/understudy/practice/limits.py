"""Rate limits as providers keep them: requests and tokens a minute, enforced over short slices.

What a client is told counts by the minute; what is let through counts by the slice, so that a burst
is refused although the headers say that much is left. Names and spellings of the headers are those
of OpenAI's guide "Rate limits": https://platform.openai.com/docs/guides/rate-limits
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from understudy.practice.chat import ApiError, Call, tokens

LIMIT = "limit"
"""What the bill calls the fault of a request that was over the limits."""


class Limited(ApiError):
    """Over the limits; ``wait_s`` seconds from now it would have been let through."""

    def __init__(self, unit: str, limit: float, wait_s: float) -> None:
        message = f"Rate limit reached on {unit} per min: Limit {limit:g}."
        if math.isfinite(wait_s):
            message += f" Please try again in {spell_seconds(wait_s)}."
        super().__init__(429, message, code="rate_limit_exceeded", kind=unit)
        self.wait_s = wait_s


class Standing(NamedTuple):
    """One limit as its headers tell it: a minute's, what is left of it, seconds until all is."""

    limit: int
    left: int
    reset_s: float


class Bucket:
    """A token bucket: filled evenly, ``per_minute`` a minute, up to ``capacity``. Times: seconds.

    It may be overdrawn by one taker that wants more than ever fits, who then is waited for.
    """

    def __init__(self, per_minute: float, capacity: float) -> None:
        self.per_second = per_minute / 60
        self.capacity = capacity
        self._level = capacity
        self._at = 0.0

    def level(self, now: float) -> float:
        """What is in it."""
        elapsed = max(0.0, now - self._at)
        self._level = min(self.capacity, self._level + elapsed * self.per_second)
        self._at = max(now, self._at)
        return self._level

    def wait(self, amount: float, now: float) -> float:
        """Seconds until ``amount`` may be taken; 0 if it may be now."""
        short = min(amount, self.capacity) - self.level(now)
        return short / self.per_second if short > 1e-9 else 0.0

    def take(self, amount: float, now: float) -> None:
        """Take it out."""
        self._level = self.level(now) - amount

    def standing(self, now: float) -> Standing:
        """Tell it as a limit by the minute."""
        level = self.level(now)
        reset = (self.capacity - level) / self.per_second
        return Standing(round(self.per_second * 60), max(0, math.floor(level + 1e-9)), reset)


class Allowance:
    """What a client may still send. A limit of None is none.

    A request counts one, and as many tokens as its prompt has or as it asks for, whichever is more.
    Refused requests do not count.
    """

    def __init__(self, requests: float | None, tokens: float | None, burst_s: float) -> None:
        per_minute = {"requests": requests, "tokens": tokens}
        limits = {unit: limit for unit, limit in per_minute.items() if limit is not None}
        self._slices = {u: Bucket(r, max(1, r * burst_s / 60)) for u, r in limits.items()}
        self._minutes = {unit: Bucket(limit, limit) for unit, limit in limits.items()}

    def admit(self, call: Call, now: float) -> None:
        """Count one call. Raises Limited if it is over a limit."""
        amounts = {"requests": 1, "tokens": max(tokens(*call.messages), call.max_tokens or 0)}
        for unit, bucket in self._slices.items():
            per_minute = self._minutes[unit].capacity
            too_large = amounts[unit] > max(1, per_minute)
            wait_s = math.inf if too_large else bucket.wait(amounts[unit], now)
            if wait_s:
                raise Limited(unit, per_minute, wait_s)
        for unit, amount in amounts.items():
            for buckets in (self._slices, self._minutes):
                if unit in buckets:
                    buckets[unit].take(amount, now)

    def standings(self, now: float) -> dict[str, Standing]:
        """How it stands with each limit there is: ``requests``, ``tokens``."""
        return {unit: bucket.standing(now) for unit, bucket in self._minutes.items()}


def openai_headers(standings: Mapping[str, Standing]) -> dict[str, str]:
    """Write the headers that come with every reply of OpenAI's API."""
    headers = {}
    for unit, standing in standings.items():
        headers[f"x-ratelimit-limit-{unit}"] = str(standing.limit)
        headers[f"x-ratelimit-remaining-{unit}"] = str(standing.left)
        headers[f"x-ratelimit-reset-{unit}"] = spell_seconds(standing.reset_s)
    return headers


def wait_headers(wait_s: float) -> dict[str, str]:
    """Write how long to wait: whole seconds for HTTP, and milliseconds; nothing if for ever."""
    if not math.isfinite(wait_s):
        return {}
    milliseconds = math.ceil(wait_s * 1000)
    return {"Retry-After": str(math.ceil(wait_s)), "retry-after-ms": str(milliseconds)}


def spell_seconds(seconds: float) -> str:
    """Spell a duration as OpenAI does: ``20ms``, ``1.5s``, ``6m0s``, ``1h0m0s``."""
    milliseconds = math.ceil(seconds * 1000 - 1e-6)
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:g}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text
