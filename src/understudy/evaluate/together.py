"""Several things asked at once, each result as it comes; nothing that was paid for is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def together(
    ask: Callable[[T], Awaitable[R]], items: Iterable[T], concurrency: int
) -> AsyncGenerator[R, None]:
    """Results as they come, ``concurrency`` in flight; the first error after those in flight."""
    rest = iter(items)
    flying: set[asyncio.Future[R]] = set()
    error: BaseException | None = None
    try:
        while True:
            while error is None and len(flying) < concurrency:
                for item in rest:
                    flying.add(asyncio.ensure_future(ask(item)))
                    break
                else:
                    break
            if not flying:
                break
            done, flying = await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
            failed = [found for call in done if (found := call.exception())]
            error = error or next(iter(failed), None)
            for call in done:
                if call.exception() is None:
                    yield call.result()
    finally:
        # Calls that were sent are paid for: they are waited for, not cancelled.
        await asyncio.gather(*flying, return_exceptions=True)
    if error is not None:
        raise error
