"""What the ledger costs: calls a second through it, against the same calls without it.

Same run, same practice server, same number in flight; medians of three.

    .venv/bin/python bench/ledger.py [CALLS] [IN_FLIGHT]
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from understudy.example import Message
from understudy.models import endpoint
from understudy.models.protocol import Request
from understudy.settings import Settings
from understudy.store.database import Database
from understudy.store.ledger import Ledger

ROUNDS = 3


async def rate(
    ask: Callable[[Request], Awaitable[object]], first: int, calls: int, at_once: int
) -> float:
    """Calls a second."""
    gate = asyncio.Semaphore(at_once)

    async def one(number: int) -> None:
        async with gate:
            await ask(Request((Message("user", f"{number} minutes"),), 50))

    started = time.perf_counter()
    await asyncio.gather(*(one(first + number) for number in range(calls)))
    return calls / (time.perf_counter() - started)


async def main(calls: int, at_once: int) -> None:
    """Measure both in turn."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(Path(folder, "understudy.db"))
        database.migrate()
        to, price = endpoint("practice:durations", Settings())
        ledger = Ledger(database, to, price, max_attempts=3, max_wait_s=10)
        await rate(lambda r: to.send(to.prepare(r)), 0, 100, at_once)  # warm-up: the server starts
        bare, through = [], []
        for turn in range(ROUNDS):
            first = 1_000_000 * (turn + 1)
            bare.append(await rate(lambda r: to.send(to.prepare(r)), first, calls, at_once))
            through.append(await rate(ledger.complete, first, calls, at_once))
        again = await rate(ledger.complete, 1_000_000, calls, at_once)
        await ledger.close()
        database.close()
    ratio = statistics.median(one / other for one, other in zip(through, bare, strict=True))
    print(f"without the ledger   {statistics.median(bare):8,.0f} calls/s")
    print(f"through the ledger   {statistics.median(through):8,.0f} calls/s   ratio {ratio:.2f}")
    print(f"found on disk        {again:8,.0f} calls/s")


if __name__ == "__main__":
    given = [int(value) for value in sys.argv[1:]]
    asyncio.run(main(*(given or [2000, 32])))
