"""How much of what a provider allows is used, and how many calls are refused, in simulation.

The product's client against one of fixed concurrency that waits as long as it is told (or else
backs off with full jitter), same simulated servers, on a clock that jumps. The first minute is not
counted. Medians of three seeds.

    .venv/bin/python bench/rates.py [SCENARIO ...]
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from simulated_endpoints import Bucket, Played, Server, Window, play, run
from understudy.models.protocol import Limits
from understudy.store.pace import Pace

SEEDS = (1, 2, 3)


class Scenario(NamedTuple):
    """A server, how many calls a second it allows, and how the client is set."""

    server: Callable[[int], Server]
    per_s: float
    workers: int = 64
    seconds: float = 300
    used: int = 1000
    estimate: int = 1000
    change: tuple[float, float] | None = None
    """When, and to how many requests a minute the limit changes."""


def _requests(**options: Any) -> Callable[[int], Server]:
    return lambda seed: Server(requests=Bucket(3000, 50), seed=seed, **options)


def _asks(seconds: float | None) -> Callable[[float], float | None]:
    return lambda wait_s: seconds


def _tokens(**options: Any) -> Callable[[int], Server]:
    return lambda seed: Server(tokens=Bucket(1_200_000, 20_000), seed=seed, **options)


SCENARIOS = {
    "3,000/min, headers": Scenario(_requests(headers=True), 50),
    "3,000/min, headers, 5 s latency": Scenario(
        _requests(headers=True, latency_s=5), 50, workers=500
    ),
    "3,000/min, minute's bucket, headers": Scenario(
        lambda seed: Server(requests=Bucket(3000, 3000), headers=True, seed=seed), 50
    ),
    "3,000/min, fixed window, headers": Scenario(
        lambda seed: Server(requests=Window(3000), headers=True, seed=seed), 50
    ),
    "3,000/min, no headers": Scenario(_requests(), 50),
    "no headers, Retry-After 5": Scenario(_requests(retry_after=_asks(5)), 50),
    "no headers, no Retry-After": Scenario(_requests(retry_after=_asks(None)), 50),
    "no headers, exact Retry-After (ms)": Scenario(_requests(retry_after=lambda s: s), 50),
    "no headers, 5 s latency": Scenario(_requests(latency_s=5), 50, workers=500),
    "no headers, 1,000 workers": Scenario(_requests(), 50, workers=1000),
    "no headers, fixed window": Scenario(lambda seed: Server(requests=Window(3000), seed=seed), 50),
    "60/min, no headers": Scenario(
        lambda seed: Server(requests=Bucket(60, 1), seed=seed), 1, seconds=1200
    ),
    "60/min, headers": Scenario(
        lambda seed: Server(requests=Bucket(60, 1), headers=True, seed=seed), 1, seconds=1200
    ),
    "1.2 M tokens/min, headers": Scenario(_tokens(headers=True), 20),
    "tokens, estimate 3 times too high": Scenario(_tokens(headers=True), 20, estimate=3000),
    "tokens, counts 3 times what is used": Scenario(
        _tokens(headers=True, counts_at_admission=3000), 20 / 3
    ),
    "tokens, no headers": Scenario(_tokens(), 20),
    "another takes half, headers": Scenario(_requests(headers=True, others_per_s=25), 25),
    "another, headers, 5 s latency": Scenario(
        _requests(headers=True, others_per_s=25, latency_s=5), 25, workers=500
    ),
    "another, minute's bucket, headers": Scenario(
        lambda seed: Server(requests=Bucket(3000, 3000), headers=True, others_per_s=25, seed=seed),
        25,
        seconds=600,
    ),
    "another, fixed window, headers": Scenario(
        lambda seed: Server(requests=Window(3000), headers=True, others_per_s=25, seed=seed), 25
    ),
    "another, no headers": Scenario(_requests(others_per_s=25), 25),
    "limit falls to 1,000, headers": Scenario(_requests(headers=True), 50, change=(180, 1000)),
    "limit falls, no headers": Scenario(_requests(), 50, change=(180, 1000)),
    "limit rises to 6,000, headers": Scenario(_requests(headers=True), 50, change=(180, 6000)),
    "limit rises, no headers": Scenario(_requests(), 50, change=(180, 6000)),
    "3% refused at random": Scenario(
        lambda seed: Server(refused_at_random=0.03, retry_after=_asks(1), seed=seed), 320
    ),
    "30% refused at random": Scenario(
        lambda seed: Server(refused_at_random=0.3, retry_after=_asks(1), seed=seed), 320
    ),
    "30% refused at random, no Retry-After": Scenario(
        lambda seed: Server(refused_at_random=0.3, retry_after=_asks(None), seed=seed), 320
    ),
    "3% at random, no Retry-After": Scenario(
        lambda seed: Server(refused_at_random=0.03, retry_after=_asks(None), seed=seed), 320
    ),
    "20% refused at random": Scenario(
        lambda seed: Server(refused_at_random=0.2, retry_after=_asks(1), seed=seed), 320
    ),
    "20% at random, no Retry-After": Scenario(
        lambda seed: Server(refused_at_random=0.2, retry_after=_asks(None), seed=seed), 320
    ),
    "50% refused at random": Scenario(
        lambda seed: Server(refused_at_random=0.5, retry_after=_asks(1), seed=seed), 320
    ),
    "50% at random, no Retry-After": Scenario(
        lambda seed: Server(refused_at_random=0.5, retry_after=_asks(None), seed=seed), 320
    ),
    "3,000/min, 3% refused at random": Scenario(_requests(refused_at_random=0.03), 50),
    "no limit, 1,000 workers": Scenario(
        lambda seed: Server(seed=seed), 5000, workers=1000, seconds=30
    ),
}


async def one(scenario: Scenario, seed: int, *, product: bool) -> Played:
    """Play one scenario once."""
    random.seed(seed)
    server = scenario.server(seed)
    per_s, change = scenario.per_s, scenario.change

    def allowed(since: float, until: float) -> float:
        if change is None:
            return per_s * (until - since)
        before = max(0.0, min(until, change[0]) - since)
        return per_s * before + change[1] / 60 * (until - since - before)

    async def during() -> None:
        if change is not None and isinstance(server.requests, Bucket):
            await asyncio.sleep(change[0])
            now = asyncio.get_running_loop().time()
            server.requests.change(now, change[1], change[1] / 60)

    return await run(
        server,
        workers=scenario.workers,
        seconds=scenario.seconds,
        pace=Pace(concurrency=scenario.workers, max_wait_s=600) if product else None,
        allowed=allowed,
        estimate=scenario.estimate,
        used=scenario.used,
        warm_s=60 if scenario.seconds > 100 else 0,
        during=during,
    )


def cost_us(limits: Limits | None, calls: int = 50_000) -> float:
    """Microseconds of CPU that a call spends in the pace when nothing holds it back."""

    async def measure() -> float:
        pace = Pace(concurrency=1000, max_wait_s=60)
        started = time.process_time()
        for _ in range(calls):
            turn = await pace.turn(1000)
            pace.leave(turn)
            pace.heard(turn, limits)
            pace.answered(turn, 900)
        return (time.process_time() - started) / calls * 1e6

    return statistics.median(asyncio.run(measure()) for _ in range(3))


def main(wanted: list[str]) -> None:
    """Print the table."""
    print(f"{'':38} {'product':^23}   {'fixed concurrency':^23}")
    print(f"{'':38}" + f" {'used':>7} {'refused':>7} {'calls':>7}  " * 2)
    for number, (name, scenario) in enumerate(SCENARIOS.items()):
        if wanted and str(number) not in wanted:
            continue
        line = f"{number:2} {name:35}"
        for product in (True, False):
            played = [play(one(scenario, seed, product=product)) for seed in SEEDS]
            used = statistics.median(p.used for p in played)
            refused = statistics.median(p.refused for p in played)
            calls = statistics.median(p.hits for p in played)
            line += f" {used:7.1%} {refused:7.2%} {calls:7,.0f}  "
        print(line, flush=True)
    roomy = Limits(1e9, 1e9, 0.0, 1e12, 1e12, 0.0)
    print(f"cost of a call: {cost_us(None):.1f} us; with headers {cost_us(roomy):.1f} us")


if __name__ == "__main__":
    main(sys.argv[1:])
