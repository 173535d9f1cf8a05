"""When a call may go out: rates told and found out, pauses, the queue, the breaker, stopping."""

from __future__ import annotations

import asyncio
import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulated_endpoints import Bucket, Played, Server, Window, play, run
from understudy.errors import ProviderRefused, UnderstudyError
from understudy.models.protocol import Limits
from understudy.store.pace import Pace, Stopped, Turn


def _played(server: Server, allowed_per_s: float, **options: Any) -> Played:
    async def main() -> Played:
        workers = options.setdefault("workers", 64)
        return await run(
            server,
            pace=Pace(concurrency=workers, max_wait_s=600),
            allowed=lambda since, until: allowed_per_s * (until - since),
            **options,
        )

    random.seed(7)
    return play(main())


# Rates


@pytest.mark.parametrize("workers_latency", [(64, 0.2), (500, 5.0)])
@pytest.mark.parametrize("headers", [True, False])
def test_a_limit_is_used_up_and_hardly_ever_passed(headers: bool, workers_latency) -> None:
    """3,000 a minute with a burst of a second: 95% of it is used, 2% refused at the most."""
    workers, latency_s = workers_latency
    server = Server(requests=Bucket(3000, 50), headers=headers, latency_s=latency_s)
    played = _played(server, 50, workers=workers, seconds=180)
    assert played.used >= 0.95
    assert played.refused <= 0.02


@pytest.mark.parametrize("asked_s", [None, 0.02, 5.0])
def test_the_rate_is_found_whatever_wait_is_asked_for(asked_s: float | None) -> None:
    """Without headers the limit is found, from refusals with a short, a long or no Retry-After."""
    server = Server(requests=Bucket(3000, 50), retry_after=lambda _: asked_s)
    played = _played(server, 50, seconds=240)
    assert played.used >= 0.93
    assert played.refused <= 0.02


@pytest.mark.parametrize("headers", [True, False])
def test_a_small_limit_without_room_for_a_burst(headers: bool) -> None:
    """One call a second and never two: most of it is used, hardly any call refused."""
    played = _played(Server(requests=Bucket(60, 1), headers=headers), 1, seconds=600)
    assert played.used >= 0.9
    assert played.refused <= 0.02


@pytest.mark.parametrize("headers", [True, False])
def test_limits_by_fixed_windows(headers: bool) -> None:
    """Gateways that count by the minute are used up as well."""
    played = _played(Server(requests=Window(3000), headers=headers), 50, seconds=240)
    assert played.used >= 0.95
    assert played.refused <= 0.02


@pytest.mark.parametrize("estimate", [300, 1000, 3000])
def test_estimates_of_tokens_are_corrected(estimate: int) -> None:
    """A limit of tokens is used up though the estimates are three times too high or too low."""
    server = Server(tokens=Bucket(1_200_000, 20_000), headers=True)
    played = _played(server, 20, estimate=estimate, used=1000, seconds=180)
    assert played.used >= 0.95
    assert played.refused <= 0.02


@pytest.mark.parametrize("headers", [True, False])
def test_another_program_uses_the_same_key(headers: bool) -> None:
    """Half of the limit goes to somebody else: the other half is used, and not more."""
    server = Server(requests=Bucket(3000, 50), headers=headers, others_per_s=25)
    played = _played(server, 25, seconds=180)
    assert played.used >= 0.95
    assert played.refused <= 0.02


@pytest.mark.parametrize("per_minute", [1000, 6000])
@pytest.mark.parametrize("headers", [True, False])
def test_a_limit_that_changes_is_followed(headers: bool, per_minute: int) -> None:
    """A limit falls to a third or doubles in mid-run; two minutes later the new one is used."""
    bucket = Bucket(3000, 50)

    async def change() -> None:
        await asyncio.sleep(60)
        bucket.change(asyncio.get_running_loop().time(), per_minute, per_minute / 60)

    server = Server(requests=bucket, headers=headers)
    played = _played(server, per_minute / 60, seconds=300, warm_s=180, during=change)
    assert played.used >= 0.9
    assert played.refused <= 0.02


def test_nothing_is_lost_without_a_limit() -> None:
    """1,000 in flight and 200 ms: as many calls as if there were no pace at all."""
    played = _played(Server(), 1000 / 0.2, workers=1000, seconds=5, warm_s=1)
    assert played.used >= 0.985
    assert played.refused == 0


def test_random_refusals_do_not_stop_the_work() -> None:
    """30% refused whatever the rate (T01): few cuts, every wait kept, far from standstill."""
    server = Server(refused_at_random=0.3, retry_after=lambda _: 1.0)
    said = []

    async def main() -> Played:
        pace = Pace(concurrency=64, max_wait_s=60, say=lambda kind, **data: said.append(data))
        return await run(server, pace=pace, seconds=240)

    random.seed(7)
    played = play(main())
    assert played.hits * 0.7 / 240 > 15  # a burst of 64 at most, then a second for everybody
    assert 0.25 < played.refused < 0.35
    assert len(said) <= 240 / 5


@pytest.mark.parametrize(("share", "least"), [(0.03, 0.6), (0.2, 0.3), (0.5, 0.12)])
@pytest.mark.parametrize("asked_s", [1.0, None])
def test_refused_at_random_only_the_refused_wait(share: float, least: float, asked_s) -> None:
    """What goes through of 320 a second, though each refused call waits: no pause for everybody."""
    server = Server(refused_at_random=share, retry_after=lambda _: asked_s)
    assert _played(server, 320, seconds=120, warm_s=60).used >= (least if asked_s else 0.6 * least)


async def _proven(pace: Pace, server: Server) -> None:
    """Play until refusals no longer make everybody wait."""
    await run(server, pace=pace, seconds=60)
    turn, other = await pace.turn(0), await pace.turn(0)
    pace.leave(turn)
    pace.leave(other)
    pace.refused(turn, 5.0)
    before = asyncio.get_running_loop().time()
    pace.leave(await pace.turn(0))
    assert asyncio.get_running_loop().time() - before < 1
    await pace.sit_out(other)  # was not refused
    assert asyncio.get_running_loop().time() - before < 1
    await pace.sit_out(turn)
    assert asyncio.get_running_loop().time() - before >= 4.999


def test_a_refused_call_sits_out_alone() -> None:
    """Once refusals prove random, others go on within its Retry-After and it itself does not."""

    async def main() -> None:
        server = Server(refused_at_random=0.2, retry_after=lambda _: 1.0)
        await _proven(Pace(concurrency=64, max_wait_s=60), server)

    random.seed(7)
    play(main())


@pytest.mark.parametrize("per_minute", [3000, 600])
def test_a_limit_after_random_refusals_is_kept(per_minute: int) -> None:
    """Refusals were random, then a limit comes: everybody pauses again, few are refused."""

    async def main() -> Played:
        pace = Pace(concurrency=64, max_wait_s=60)
        await _proven(pace, Server(refused_at_random=0.03, retry_after=lambda _: 1.0))
        limited = Server(requests=Bucket(per_minute, per_minute / 60))
        return await run(
            limited,
            pace=pace,
            seconds=300,
            warm_s=120,
            allowed=lambda since, until: per_minute / 60 * (until - since),
        )

    random.seed(7)
    played = play(main())
    assert played.used >= 0.9
    assert played.refused <= 0.02


def test_an_outage_after_random_refusals_pauses_everybody() -> None:
    """When suddenly every call is refused, that is not random: no storm of 64 a second."""

    async def main() -> Played:
        pace = Pace(concurrency=64, max_wait_s=60)
        await _proven(pace, Server(refused_at_random=0.03, retry_after=lambda _: 1.0))
        down = Server(refused_at_random=1.0, retry_after=lambda _: 1.0)
        return await run(down, pace=pace, seconds=60)

    random.seed(7)
    assert play(main()).hits < 60 * 20


def test_after_a_pause_calls_are_spread() -> None:
    """Of 64 calls that waited for the same Retry-After no two in ten share a twentieth second."""

    async def main() -> list[float]:
        pace = Pace(concurrency=64, max_wait_s=60)
        clock = asyncio.get_running_loop().time
        turns = [await pace.turn(0) for _ in range(64)]
        await asyncio.sleep(5)
        for turn in turns:
            pace.leave(turn)
            pace.refused(turn, 2.0)
        asked_until = clock() + 2.0

        async def again() -> float:
            turn = await pace.turn(0)
            at = clock()
            await asyncio.sleep(0.2)
            pace.leave(turn)
            return at - asked_until

        return list(await asyncio.gather(*(again() for _ in range(64))))

    sent = play(main())
    assert min(sent) >= 0
    slots = [int(at / 0.05) for at in sent]
    assert max(slots.count(slot) for slot in slots) <= 6


def test_a_machine_that_slept_wakes_to_no_storm() -> None:
    """After an hour of no loop at all no more than the small burst goes out at once."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        pace = Pace(concurrency=1000, max_wait_s=60)
        turn = await pace.turn(0)
        pace.heard(turn, Limits(requests=3000, requests_left=3000))
        pace.leave(turn)
        waiting = [asyncio.create_task(pace.turn(0)) for _ in range(500)]
        await asyncio.sleep(1)
        before = sum(task.done() for task in waiting)
        loop.clock.now += 3600
        await asyncio.sleep(0.001)
        at_once = sum(task.done() for task in waiting) - before
        pace.stop()
        await asyncio.gather(*waiting, return_exceptions=True)
        return at_once

    assert 1 <= play(main()) <= 12


# The pause


def test_a_wait_that_is_too_long_is_refused() -> None:
    """A Retry-After beyond max_wait_s ends the run and says how long and that all is saved."""

    async def main() -> None:
        pace = Pace(concurrency=1, max_wait_s=60)
        pace.refused(await pace.turn(0), 3600)

    with pytest.raises(ProviderRefused, match=r"wait 3600 s.*saved"):
        play(main())


def test_one_cut_a_burst() -> None:
    """64 refusals of calls sent together lower the rate once."""
    said: list[tuple[str, dict[str, float]]] = []

    async def main() -> None:
        pace = Pace(
            concurrency=64, max_wait_s=60, say=lambda kind, **data: said.append((kind, data))
        )
        turns = [await pace.turn(0) for _ in range(64)]
        for turn in turns:
            await asyncio.sleep(10)  # longer than events are held back
            pace.leave(turn)
            pace.refused(turn, 1.0)

    play(main())
    assert [kind for kind, _ in said] == ["rates.cut"]


# The queue


class _Machine:
    """A Pace in use, checked at every send."""

    def __init__(self, concurrency: int) -> None:
        self.pace = Pace(concurrency=concurrency, max_wait_s=1e9)
        self.concurrency = concurrency
        self.clock = asyncio.get_running_loop().time
        self.went: list[int] = []
        self.flying: list[Turn] = []
        self.waiting: list[asyncio.Task[None]] = []
        self.quiet_until = -math.inf

    async def _call(self, number: int) -> None:
        turn = await self.pace.turn(number)
        assert turn.sent_at == self.clock() >= self.quiet_until
        self.flying.append(turn)
        self.went.append(number)
        assert len(self.flying) <= self.concurrency

    async def step(self, number: int, kind: str, value: int) -> None:
        if kind == "turn":
            self.waiting.append(asyncio.create_task(self._call(number)))
        elif kind == "back_off":
            self.waiting.append(asyncio.create_task(self.pace.back_off(value % 4)))
        elif kind == "cancel" and self.waiting:
            self.waiting[value % len(self.waiting)].cancel()
        elif kind == "sleep":
            await asyncio.sleep(value / 100)
        elif self.flying:
            self._response(self.flying[value % len(self.flying)], kind, value)
        await asyncio.sleep(0)

    def _response(self, turn: Turn, kind: str, value: int) -> None:
        if kind == "leave":
            self.flying.remove(turn)
            self.pace.leave(turn)
            self.pace.leave(turn)  # twice is once
        elif kind == "refuse":
            self.pace.refused(turn, value / 100)
            self.quiet_until = max(self.quiet_until, self.clock() + value / 100)
        elif kind == "answer":
            self.pace.answered(turn, value)
        elif kind == "hear":
            limit = float(value) if value % 2 else None
            self.pace.heard(turn, Limits(limit, value / 2, 1.0, limit, value / 3, 1.0))

    async def stop(self) -> None:
        at = self.clock()
        self.pace.stop()
        if self.waiting:
            await asyncio.wait(self.waiting)
        assert self.clock() == at
        with pytest.raises(Stopped):
            await self.pace.turn(1)

    async def finish(self) -> list[object]:
        """Let everybody through, some day; how each wait ended."""
        while not all(task.done() for task in self.waiting):
            for turn in self.flying:
                self.pace.leave(turn)
            self.flying.clear()
            await asyncio.wait(self.waiting, timeout=1e5)
        return await asyncio.gather(*self.waiting, return_exceptions=True)


_KINDS = ["turn", "turn", "leave", "refuse", "answer", "hear", "cancel", "sleep", "back_off"]
_STEPS = st.lists(st.tuples(st.sampled_from(_KINDS), st.integers(0, 1_000)), max_size=60)


@settings(max_examples=150, deadline=None)
@given(steps=_STEPS, concurrency=st.integers(1, 5), stop=st.booleans())
def test_the_queue_holds_whatever_happens(steps, concurrency: int, stop: bool) -> None:
    """Never too many in flight, first come first served, no send in a pause, nobody forgotten."""

    async def main() -> None:
        machine = _Machine(concurrency)
        for number, (kind, value) in enumerate(steps):
            await machine.step(number, kind, value)
        if stop:
            await machine.stop()
        ended = await asyncio.wait_for(machine.finish(), 1e9)
        assert machine.went == sorted(machine.went)
        ways_out = (asyncio.CancelledError, Stopped) if stop else asyncio.CancelledError
        assert all(result is None or isinstance(result, ways_out) for result in ended)

    play(main())


def test_stop_ends_every_wait_at_once() -> None:
    """Those who wait for a slot, for a pause and for a back-off all get Stopped now (T12, T40)."""

    async def main() -> float:
        pace = Pace(concurrency=1, max_wait_s=60)
        turn = await pace.turn(0)
        pace.refused(turn, 50)
        tasks = [asyncio.create_task(pace.turn(0)) for _ in range(10)]
        tasks += [asyncio.create_task(pace.back_off(10)) for _ in range(10)]
        await asyncio.sleep(0.001)
        at = asyncio.get_running_loop().time()
        pace.stop()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, Stopped) for result in results)
        pace.leave(turn)  # what is in flight ends as ever
        return asyncio.get_running_loop().time() - at

    assert play(main()) == 0


def test_back_off_waits_longer_each_time_with_jitter() -> None:
    """Waits after the same number of tries differ, and their longest doubles up to a bound."""

    async def main() -> list[list[float]]:
        pace = Pace(concurrency=1, max_wait_s=60)
        clock = asyncio.get_running_loop().time
        waits = []
        for tried in (1, 3, 50):
            waits.append([])
            for _ in range(200):
                before = clock()
                await pace.back_off(tried)
                waits[-1].append(clock() - before)
        return waits

    random.seed(3)
    one, three, many = play(main())
    assert 0.8 < max(one) <= 1.001
    assert 3.2 < max(three) <= 4.001
    assert 25 < max(many) <= 30.001
    assert min(many) < 2


# The breaker


def _until_it_opens(outcomes: list[bool]) -> tuple[int, str]:
    """How many outcomes (True: answered) it took, and the message."""

    async def main() -> tuple[int, str]:
        pace = Pace(concurrency=1, max_wait_s=60)
        for number, good in enumerate(outcomes, 1):
            turn = await pace.turn(0)
            pace.leave(turn)
            try:
                if good:
                    pace.answered(turn, None)
                else:
                    pace.failed(UnderstudyError("HTTP 500" if number % 5 else "cut off"))
            except ProviderRefused as error:
                return number, str(error)
        return 0, ""

    return play(main())


def test_twenty_failures_in_a_row_open_the_breaker() -> None:
    """The commonest error is told, and that nothing is lost."""
    number, message = _until_it_opens([True] * 30 + [False] * 30)
    assert number == 50
    assert "20 calls in a row failed, 16 of them with: HTTP 500" in message
    assert "saved" in message


def test_a_window_that_mostly_fails_opens_the_breaker() -> None:
    """More than half of the last hundred, never twenty in a row; not before fifty were seen."""
    number, message = _until_it_opens([False, False, True] * 60)
    assert number == 50
    assert "34 of the last 50 calls failed" in message
    assert _until_it_opens([True] * 100 + [False, False, True] * 60)[0] == 176
    assert _until_it_opens([True, False] * 200) == (0, "")


@given(st.lists(st.booleans(), max_size=200))
def test_the_breaker_agrees_with_counting(outcomes: list[bool]) -> None:
    """It opens at the first outcome for which the last ones, counted afresh, say so."""
    expected = 0
    for number in range(1, len(outcomes) + 1):
        last = outcomes[max(0, number - 100) : number]
        in_a_row = number >= 20 and not any(outcomes[number - 20 : number])
        mostly = len(last) >= 50 and last.count(False) > len(last) / 2
        if not outcomes[number - 1] and (in_a_row or mostly):
            expected = number
            break
    assert _until_it_opens(outcomes)[0] == expected
