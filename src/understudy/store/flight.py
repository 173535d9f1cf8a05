"""A call while it is under way: what it has been through, and who else waits for it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from understudy.models.protocol import CallFailed, Reply


@dataclass
class Tries:
    """What one call has been through. ``patience_ends`` is on the loop's clock."""

    sent: int = 0
    waited: int = 0
    patience_ends: float | None = None


@dataclass
class Flight:
    """A call under way, and who else waits for it."""

    task: asyncio.Task[object] | None
    waiting: list[asyncio.Future[Reply]] = field(default_factory=list)

    def ended(self, result: Reply | BaseException) -> None:
        """Tell them all."""
        for one in self.waiting:
            if one.done():
                continue
            if isinstance(result, Reply):
                one.set_result(result)
            elif isinstance(result, Exception):
                one.set_exception(result)
            else:
                one.set_exception(CallFailed("the same call was given up"))
