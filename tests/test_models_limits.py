"""Rate limits and waits in every spelling that endpoints use (T02)."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.models.address import address
from understudy.models.limits import duration_s, limits, retry_after
from understudy.models.protocol import Limits, Unpaid
from understudy.models.refusal import refusal

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC).timestamp()
SENSELESS = [
    "",
    " ",
    "-5",
    "-5s",
    "soon",
    "nan",
    "inf",
    "-inf",
    "1e999",
    "1_0",
    "١٢",
    "0x10",
    "5x",
    "²",
]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("20", 20.0),
        ("1.5", 1.5),
        (" 7 ", 7.0),
        ("1e12", 1e12),
        ("20s", 20.0),
        ("1m30s", 90.0),
        ("Sun, 22 Nov 2026 10:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 11:00:30 +0100", 30.0),
        ("Sunday, 22-Nov-26 10:00:30 GMT", 30.0),
        ("2026-11-22T10:00:30Z", 30.0),
        ("Sun, 22 Nov 2026 09:00:00 GMT", None),
        *((text, None) for text in SENSELESS),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    """Seconds, durations and dates; what makes no sense, and the past, are not told."""
    assert retry_after({"Retry-After": text}, NOW) == seconds
    assert retry_after({"retry-after": text}, NOW) == seconds


@pytest.mark.parametrize(("text", "seconds"), [("1500", 1.5), ("0", 0.0), ("20.5", 0.0205)])
def test_retry_after_in_milliseconds_goes_first(text: str, seconds: float) -> None:
    """OpenAI and Azure say both; the finer one counts."""
    assert retry_after({"retry-after-ms": text, "Retry-After": "9"}, NOW) == seconds


@pytest.mark.parametrize("text", SENSELESS)
def test_senseless_milliseconds_leave_the_seconds(text: str) -> None:
    """One bad header does not spoil the other."""
    assert retry_after({"retry-after-ms": text, "Retry-After": "9"}, NOW) == 9


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("6m0s", 360),
        ("1m30s", 90),
        ("20ms", 0.02),
        ("250us", 0.00025),
        ("1h2m3.5s", 3723.5),
        ("1d", 86400),
        ("2m59.56s", 179.56),
        ("45", 45),
        ("0.25", 0.25),
        (str(int(NOW) + 30), 30),
        (str(int(NOW * 1000) + 30_500), 30.5),
        ("2026-11-22T10:00:30Z", 30),
        ("2026-11-22T10:00:30.250Z", 30.25),
        ("2026-11-22T12:00:30+02:00", 30),
        ("2026-11-22T10:00:30", 30),
        ("2026-11-22T09:00:00Z", 0),
        ("Sun, 22 Nov 2026 10:00:30 GMT", 30),
        ("1e12", 0),
    ],
)
def test_a_reset_is_the_wait_where_nothing_else_says_it(text: str, seconds: float) -> None:
    """Durations, seconds, seconds and milliseconds since 1970, RFC 3339, HTTP dates."""
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": text}
    told = limits(headers, NOW)
    assert told is not None
    assert told.requests_reset_s == pytest.approx(seconds, abs=1e-3)
    assert retry_after(headers, NOW) == pytest.approx(seconds, abs=1e-3)


@pytest.mark.parametrize("text", SENSELESS)
def test_a_reset_that_makes_no_sense_is_not_told(text: str) -> None:
    """Rather no wait than a wrong one."""
    assert retry_after({"x-ratelimit-reset-requests": text}, NOW) is None
    assert (
        limits({"x-ratelimit-reset-requests": text, "x-ratelimit-limit-tokens": text}, NOW) is None
    )


def test_the_wait_is_that_of_the_limit_which_is_used_up() -> None:
    """Not of the one that has much left."""
    headers = {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "40000",
        "x-ratelimit-remaining-tokens": "300",
        "x-ratelimit-reset-tokens": "59s",
    }
    assert retry_after(headers, NOW) == 59
    both = {**headers, "x-ratelimit-remaining-tokens": "0", "x-ratelimit-remaining-requests": "0"}
    assert retry_after(both, NOW) == 59
    assert retry_after({**headers, "Retry-After": "3"}, NOW) == 3


MAKERS = {
    "openai": (
        {
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-limit-tokens": "150000",
            "x-ratelimit-remaining-requests": "59",
            "x-ratelimit-remaining-tokens": "149984",
            "x-ratelimit-reset-requests": "1s",
            "x-ratelimit-reset-tokens": "6ms",
        },
        Limits(60, 59, 1, 150000, 149984, 0.006),
    ),
    "azure": (
        {"x-ratelimit-remaining-requests": "9", "x-ratelimit-remaining-tokens": "900"},
        Limits(requests_left=9, tokens_left=900),
    ),
    "anthropic": (
        {
            "anthropic-ratelimit-requests-limit": "1000",
            "anthropic-ratelimit-requests-remaining": "999",
            "anthropic-ratelimit-requests-reset": "2026-11-22T10:00:06Z",
            "anthropic-ratelimit-input-tokens-limit": "80000",
            "anthropic-ratelimit-input-tokens-remaining": "80000",
            "anthropic-ratelimit-output-tokens-limit": "16000",
            "anthropic-ratelimit-output-tokens-remaining": "4000",
            "anthropic-ratelimit-output-tokens-reset": "2026-11-22T10:00:45Z",
        },
        Limits(1000, 999, 6, 16000, 4000, 45),
    ),
    "openrouter": (
        {
            "X-RateLimit-Limit": "20",
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": str(int(NOW * 1000) + 12_000),
        },
        Limits(20, 0, 12),
    ),
    "mistral": (
        {
            "x-ratelimit-limit-req-minute": "60",
            "x-ratelimit-remaining-req-minute": "30",
            "x-ratelimit-limit-tokens-minute": "500000",
            "x-ratelimit-remaining-tokens-minute": "499000",
        },
        Limits(requests=60, requests_left=30, tokens=500000, tokens_left=499000),
    ),
    "a day's limit": (
        {
            "x-ratelimit-limit-requests": "14400",
            "x-ratelimit-remaining-requests": "14370",
            "x-ratelimit-reset-requests": "2m59.56s",
        },
        Limits(None, 14370, 179.56),
    ),
    "none": ({"Content-Type": "application/json", "x-request-id": "1"}, None),
    "senseless": ({"x-ratelimit-limit-requests": "-1", "x-ratelimit-limit-tokens": "0"}, None),
}


@pytest.mark.parametrize("maker", MAKERS)
def test_limits_of_every_make(maker: str) -> None:
    """Each header goes where it belongs, in seconds; what is not said stays unknown."""
    headers, told = MAKERS[maker]
    assert limits(headers, NOW) == told
    assert limits({name.upper(): text for name, text in headers.items()}, NOW) == told


@given(st.floats(0, 1e8), st.sampled_from(["s", "ms", "m", "h"]))
def test_a_duration_is_read_back_as_written(value: float, unit: str) -> None:
    """One number and its unit."""
    scale = {"s": 1, "ms": 1e-3, "m": 60, "h": 3600}[unit]
    assert duration_s(f"{value:.6f}{unit}") == pytest.approx(round(value, 6) * scale)


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_parts_of_a_duration_add_up(hours: int, minutes: int, seconds: int, ms: int) -> None:
    """``1h2m3s4ms`` is the sum of its parts."""
    total = hours * 3600 + minutes * 60 + seconds + ms / 1000
    assert duration_s(f"{hours}h{minutes}m{seconds}s{ms}ms") == pytest.approx(total)


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)))  # noqa: DTZ001
def test_dates_in_both_spellings_agree(moment: datetime) -> None:
    """An HTTP date and the same moment in RFC 3339."""
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    iso, http = f"{moment:%Y-%m-%dT%H:%M:%SZ}", format_datetime(moment, usegmt=True)
    first, second = (limits({"x-ratelimit-reset": text}, NOW) for text in (iso, http))
    assert first == second == Limits(requests_reset_s=max(0.0, moment.timestamp() - NOW))


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "Retry-After",
                "retry-after-ms",
                "x-ratelimit-limit-requests",
                "x-ratelimit-remaining-tokens",
                "x-ratelimit-reset-tokens",
                "x-ratelimit-reset",
                "anthropic-ratelimit-tokens-reset",
            ]
        ),
        st.text(max_size=12) | st.from_regex(r"[-+0-9.eEhmsun:TZ]{1,20}", fullmatch=True),
    )
)
def test_no_header_raises_or_gives_nonsense(headers: dict[str, str]) -> None:
    """Whatever an endpoint sends: each figure is finite and not negative, or not told."""
    wait = retry_after(headers, NOW)
    assert wait is None or (math.isfinite(wait) and wait >= 0)
    told = limits(headers, NOW)
    if told is not None:
        figures = [getattr(told, name) for name in Limits.__slots__]
        assert any(figure is not None for figure in figures)
        assert all(f is None or (math.isfinite(f) and f >= 0) for f in figures)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("Please try again in 6ms.", 0.006),
        ("Please try again in 1m30s.", 90),
        ("Please try again in 1.5s. Visit the page", 1.5),
        ("Please try again in 1h2m3s.", 3723),
        ("Please try again later.", None),
    ],
)
def test_a_wait_that_only_the_message_tells(said: str, seconds: float | None) -> None:
    """Six milliseconds are not six minutes."""
    where = address("http://127.0.0.1:1/v1#m", offline=False, environ={})
    body = json.dumps({"error": {"message": said, "code": "rate_limit_exceeded"}}).encode()
    error = refusal(where, 429, {}, body)
    assert isinstance(error, Unpaid)
    assert (error.busy, error.wait_s) == (True, pytest.approx(seconds) if seconds else None)
