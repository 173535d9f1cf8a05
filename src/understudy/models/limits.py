"""Rate limits and waits as endpoints spell them, in headers of many makes.

    Retry-After: 20 | Sun, 22 Nov 2026 10:00:00 GMT        RFC 9110, section 10.2.3
    retry-after-ms: 20000                                  OpenAI, Azure
    x-ratelimit-{limit,remaining,reset}-{requests,tokens}  OpenAI, Azure, Groq, Fireworks: 1m30s
    x-ratelimit-{limit,remaining}-{req,tokens}-minute      Mistral
    x-ratelimit-{limit,remaining,reset}                    OpenRouter (ms since 1970), Together
    anthropic-ratelimit-{requests,[input-,output-]tokens}-{limit,remaining,reset}   RFC 3339

What makes no sense (negative, NaN, words) counts as not said.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

from understudy.models.protocol import Limits

_NUMBER = re.compile(r"\d+(?:\.\d*)?(?:[eE]\+?\d+)?", re.ASCII)
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|d|h|m|s)", re.ASCII)
_DURATION = re.compile(f"(?:{_PART.pattern})+", re.ASCII)
_A_DATE_S = 1e9
"""A number this large is no wait but a moment: seconds since 1970."""
_A_DATE_MS = 1e11
_MINUTE_S = 90
"""A limit that takes longer than a minute, and some, to refill is none per minute."""

_Family = tuple[str, str]  # what is limited, and the spelling that says so
_NAMES: dict[str, tuple[_Family, str]] = {
    spelling.format(what=what): ((unit, spelling), what)
    for unit, spellings in {
        "requests": (
            "x-ratelimit-{what}-requests",
            "anthropic-ratelimit-requests-{what}",
            "x-ratelimit-{what}-req-minute",
            "x-ratelimit-{what}",
        ),
        "tokens": (
            "x-ratelimit-{what}-tokens",
            "anthropic-ratelimit-tokens-{what}",
            "anthropic-ratelimit-input-tokens-{what}",
            "anthropic-ratelimit-output-tokens-{what}",
            "x-ratelimit-{what}-tokens-minute",
            "x-tokenlimit-{what}",
        ),
    }.items()
    for spelling in spellings
    for what in ("limit", "remaining", "reset")
}


def limits(headers: Mapping[str, str], now: float | None = None) -> Limits | None:
    """The rate limits that ``headers`` tell, or None if they tell none.

    Where several bound the same thing, the scarcest. ``now`` is in seconds since 1970.
    """
    said: dict[_Family, dict[str, float]] = {}
    for name in headers:
        known = _NAMES.get(name.lower())
        if known is None:
            continue
        family, what = known
        text = headers[name]
        value: float | None
        if text.isdigit() and text.isascii() and len(text) < 10:  # nearly always
            value = float(text)
        else:
            value = _from_now(text, now) if what == "reset" else _number(text)
        if value is None or (what == "limit" and not value):
            continue
        if family in said:
            said[family][what] = value
        else:
            said[family] = {what: value}
    if not said:
        return None
    requests, tokens = _scarcest(said, "requests"), _scarcest(said, "tokens")
    return Limits(
        requests=_per_minute(requests),
        requests_left=requests.get("remaining"),
        requests_reset_s=requests.get("reset"),
        tokens=_per_minute(tokens),
        tokens_left=tokens.get("remaining"),
        tokens_reset_s=tokens.get("reset"),
    )


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds to wait after a refusal, or None if they are not told.

    From retry-after-ms or Retry-After; else from when the limit that is used up most is refilled.
    """
    wait = _number(headers.get("retry-after-ms", ""))
    if wait is not None:
        return wait / 1000
    said = headers.get("Retry-After") or headers.get("retry-after") or ""
    wait = _number(said)
    if wait is None:
        wait = duration_s(said)
    if wait is None:
        wait = _until(said, time.time() if now is None else now)
    if wait is not None and wait >= 0:
        return wait
    return _until_refilled(limits(headers, now))


@lru_cache(maxsize=1024)
def duration_s(text: str) -> float | None:
    """Seconds of a duration such as ``1m30s``, ``250us`` or ``1h2m3.5s``; None if it is none."""
    text = text.strip()
    if not _DURATION.fullmatch(text):
        return None
    total = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    return total if math.isfinite(total) else None


def _until_refilled(told: Limits | None) -> float | None:
    if told is None:
        return None
    ways = [
        (_share(left, limit), -reset)
        for left, limit, reset in (
            (told.requests_left, told.requests, told.requests_reset_s),
            (told.tokens_left, told.tokens, told.tokens_reset_s),
        )
        if reset is not None
    ]
    return -min(ways)[1] if ways else None


def _scarcest(said: Mapping[_Family, dict[str, float]], unit: str) -> dict[str, float]:
    """What is said of ``unit`` in the spelling that leaves the least."""
    ways = [found for (limited, _), found in said.items() if limited == unit]
    if len(ways) < 2:
        return ways[0] if ways else {}
    return min(ways, key=lambda way: _share(way.get("remaining"), way.get("limit")))


def _share(left: float | None, limit: float | None) -> float:
    """The share that is left, from 0 to 1; a half where it is not known."""
    if left is None:
        return 0.5
    if not left:
        return 0.0
    return min(left / limit, 1.0) if limit else 0.5


def _per_minute(said: Mapping[str, float]) -> float | None:
    return said.get("limit") if said.get("reset", 0) <= _MINUTE_S else None


def _from_now(text: str, now: float | None) -> float | None:
    """Seconds until a reset: a number of seconds, a duration or a moment; never negative."""
    seconds = duration_s(text)
    if seconds is not None:
        return seconds
    now = time.time() if now is None else now
    seconds = _number(text)
    if seconds is None:
        seconds = _until(text, now)
    elif seconds >= _A_DATE_S:
        seconds = (seconds / 1000 if seconds >= _A_DATE_MS else seconds) - now
    return None if seconds is None else max(seconds, 0.0)


def _until(text: str, now: float) -> float | None:
    """Seconds from ``now`` until an ISO 8601 or HTTP date; those without a zone are UTC."""
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = parse(text.strip())
            return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now
        except (ValueError, TypeError, OverflowError, IndexError):
            continue
    return None


def _number(text: str) -> float | None:
    """A finite number from 0 up in ASCII digits."""
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None
