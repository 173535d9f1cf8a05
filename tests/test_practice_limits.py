"""Rate limits of the practice server, as arithmetic and over real HTTP."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from practice_client import ask, chat
from understudy.practice.chat import understand
from understudy.practice.limits import Allowance, Limited, spell_seconds, wait_headers
from understudy.practice.options import Options
from understudy.practice.server import in_background

CALL = understand(chat("5 March 2024"))


def admitted(allowance, times, call=CALL):
    """The times at which a call is let through."""
    through = []
    for now in times:
        try:
            allowance.admit(call, now)
        except Limited:
            continue
        through.append(now)
    return through


@given(
    st.floats(1, 6000),
    st.floats(0.1, 60),
    st.lists(st.floats(0, 120), max_size=60).map(sorted),
)
def test_no_stretch_of_time_has_more_than_its_share(per_minute, burst_s, times):
    """Between any two moments no more comes through than one burst and the even flow."""
    through = admitted(Allowance(per_minute, None, burst_s), times)
    burst = max(1, per_minute * burst_s / 60)
    for first, start in enumerate(through):
        for count, end in enumerate(through[first:], start=1):
            assert count <= burst + (end - start) * per_minute / 60 + 1e-6


@given(st.floats(1, 600), st.floats(0.1, 10), st.floats(0, 100))
def test_who_waits_as_told_is_let_through(per_minute, burst_s, now):
    """And who comes a little earlier is not."""
    allowance = Allowance(per_minute, None, burst_s)
    while True:
        try:
            allowance.admit(CALL, now)
        except Limited as error:
            wait_s = error.wait_s
            break
    assert 0 < wait_s <= 60 / per_minute + 1e-6
    assert admitted(allowance, [now + wait_s * 0.9, now + wait_s + 1e-6]) == [now + wait_s + 1e-6]


def test_all_that_is_allowed_can_be_had():
    """A client that keeps to the even flow is never refused."""
    times = [n / 50 for n in range(3000)]
    assert admitted(Allowance(3000, None, 1.0), times) == times


def test_tokens_count_by_prompt_or_limit():
    """Whichever is more; one call may overdraw a slice, and then others wait for it."""
    allowance = Allowance(None, 600, 1.0)
    small, large = understand(chat(max_tokens=10)), understand(chat(max_tokens=100))
    assert admitted(allowance, [0, 0.5], small) == [0]
    assert admitted(allowance, [1, 1.1, 10], large) == [1]
    assert admitted(allowance, [10.9, 11.1], small) == [11.1]
    with pytest.raises(Limited) as caught:
        allowance.admit(understand(chat(max_tokens=601)), 1000)
    assert math.isinf(caught.value.wait_s)
    assert wait_headers(caught.value.wait_s) == {}


def test_what_is_refused_does_not_count():
    """Neither as a request nor as tokens, whichever of the two was over."""
    allowance = Allowance(600, 60, 10.0)
    assert len(admitted(allowance, [0] * 50, understand(chat(max_tokens=10)))) == 1
    assert allowance.standings(0)["requests"].left == 599


SPELLED = {0: "0s", 0.02: "20ms", 0.9999: "1s", 1: "1s", 1.5: "1.5s", 59.9: "59.9s", 60: "1m0s"}
SPELLED |= {360: "6m0s", 361.25: "6m1.25s", 3600: "1h0m0s", 90061: "25h1m1s"}


@pytest.mark.parametrize(("seconds", "text"), SPELLED.items())
def test_durations_are_spelled_as_openai_does(seconds, text):
    """From milliseconds to hours."""
    assert spell_seconds(seconds) == text


def limit_headers(headers):
    return {
        name.lower(): value
        for name, value in headers.items()
        if name.lower().startswith(("x-ratelimit", "retry-after"))
    }


def test_every_reply_tells_the_limits(tmp_path):
    """What a minute allows, what is left, when it is whole again; a 429 says how long to wait."""
    log = tmp_path / "bill"
    options = Options(requests_per_minute=6, tokens_per_minute=6000, log=log)
    with in_background(options) as url:
        (first, told, _), (second, refused, text) = ask(url, chat(max_tokens=10), chat())
    assert (first, second) == (200, 429)
    told = limit_headers(told)
    assert float(told.pop("x-ratelimit-reset-requests").removesuffix("s")) == pytest.approx(10, 0.2)
    assert told.pop("x-ratelimit-reset-tokens").endswith("ms")
    assert told == {
        "x-ratelimit-limit-requests": "6",
        "x-ratelimit-remaining-requests": "5",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "5990",
    }
    refused = limit_headers(refused)
    assert refused["x-ratelimit-remaining-requests"] == "5"
    assert 0 < int(refused["Retry-After".lower()]) <= 10
    assert 0 < int(refused["retry-after-ms"]) <= 10_000
    error = json.loads(text)["error"]
    assert (error["code"], error["type"]) == ("rate_limit_exceeded", "requests")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["n"], line["fault"], line["paid"]) for line in lines] == [
        (1, "", False),
        (1, "", True),
        (2, "limit", False),
        (2, "limit", False),
    ]
    assert 0 < lines[0]["t"] <= lines[2]["t"]


def test_the_limits_can_be_kept_to_oneself():
    """Then neither reply nor refusal has any of their headers."""
    options = Options(requests_per_minute=6, tokens_per_minute=6000, limit_headers=False)
    with in_background(options) as url:
        replies = ask(url, chat(), chat())
    assert [status for status, *_ in replies] == [200, 429]
    assert [limit_headers(headers) for _, headers, _ in replies] == [{}, {}]


@pytest.mark.parametrize("kind", ["500", "html", "cut_json", "drip", "204", "empty", "huge"])
def test_replies_with_a_fault_tell_the_limits_too(kind):
    """Whatever else is wrong with them."""
    options = Options(faults=((kind, 1.0),), requests_per_minute=60, drip_seconds=0)
    with in_background(options) as url:
        [(_, headers, _)] = ask(url, chat())
    assert headers["x-ratelimit-limit-requests"] == "60"


def test_without_limits_none_are_told():
    """Nothing is made up."""
    with in_background(Options()) as url:
        [(status, headers, _)] = ask(url, chat())
    assert (status, limit_headers(headers)) == (200, {})
