"""The provider that the server plays: how it behaves, its account, its limits, its clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from understudy.practice.bill import Bill
from understudy.practice.faults import Faults
from understudy.practice.limits import Allowance, Standing
from understudy.practice.shelf import Shelf


@dataclass(frozen=True, slots=True)
class Options:
    """How the server behaves."""

    key: str = ""
    """If set, requests need ``Authorization: Bearer KEY`` (or ``x-api-key: KEY``)."""
    faults: Faults = ()
    latency: float = 0.0
    """Seconds from the arrival of a request to its reply."""
    refused_parameters: tuple[str, ...] = ()
    log: Path | None = None
    """File for the provider's own account, see ``bill.py``."""
    seed: int = 0
    repeat: float = 0.0
    """Share of inputs that are one of the few favourites of their cell, see ``repeating.py``."""
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    burst_seconds: float = 1.0
    """How much of a limit may come at once, as seconds of its even flow."""
    limit_headers: bool = True
    """Whether replies tell the rate limits, and refusals for them how long to wait."""
    retry_after: str = "0.05"
    """``Retry-After`` of the fault ``429`` and its like, sent as it is; empty: not sent."""
    retry_after_ms: str = ""
    """The same of ``retry-after-ms``."""
    refusal_headers: tuple[tuple[str, str], ...] = ()
    """More headers of every refusal."""
    redirect_to: str = "http://127.0.0.1:9/v1/chat/completions"
    """``Location`` of the faults ``307`` and ``308``."""
    cut_bytes: int | None = None
    """Bytes of the body that ``cut_body`` and ``cut_json`` send; None: 40 of it, half of it."""
    drip_seconds: float = 0.1
    """Seconds between the bytes of the fault ``drip``."""
    hang_seconds: float = 30.0
    """Seconds without a byte in the fault ``slow_headers``."""
    batch_seconds: float = 1.0
    """Seconds that a batch takes, about."""
    batch_faults: Faults = ()
    """Kinds of ``batches.BATCH_FAULTS``, counted among the requests that they can hit."""


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
