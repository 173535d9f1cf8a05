"""The provider that the server plays: its account, its limits, its clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from itertools import count

from understudy.practice.bill import Bill
from understudy.practice.limits import Allowance, Standing
from understudy.practice.options import Options
from understudy.practice.shelf import Shelf


class Provider:
    """What all requests to one server share. Raises DiskError if its account cannot be opened."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.bill = Bill(options.log) if options.log else None
        self.numbers = count(1)
        """Numbers of the requests that may cost, from 1; faults are chosen by them."""
        self.allowance = Allowance(
            options.requests_per_minute, options.tokens_per_minute, options.burst_seconds
        )
        self.shelf = Shelf()
        """Files and batches."""
        self._started = time.monotonic()

    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    async def wait_until(self, seconds: float) -> None:
        """Return when so many seconds have passed since the start."""
        left = seconds - self.seconds()
        if left > 0:
            await asyncio.sleep(left)

    def standings(self) -> Mapping[str, Standing]:
        """How it stands with the limits that replies are to tell."""
        return self.allowance.standings(self.seconds()) if self.options.limit_headers else {}

    async def close(self) -> None:
        """Stop working on batches, close the account."""
        await self.shelf.close()
        if self.bill:
            await self.bill.close()
