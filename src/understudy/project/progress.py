"""What is made, stored a little at a time, and how far it is."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field

from sqlalchemy import Connection

from understudy.example import Example
from understudy.generate import Exhausted, Failure, Made, Repetitive
from understudy.generate.novelty import Hundred
from understudy.project.held_out import HeldOut
from understudy.project.workplace import Workplace
from understudy.run import Event
from understudy.store import calls, events, examples
from understudy.store.ledger import Ledger
from understudy.task import Cell

PROGRESS_S = 0.25
"""Seconds between two looks at a long verb: examples are stored and progress is told."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What ``generate`` is to make."""

    wanted: int
    """Examples that there should be in all: generated, or (``fill``) accepted ones."""
    cell: Cell | None = None
    """Only for these attribute values; ``wanted`` then counts only those."""
    fill: bool = False
    """Take the cells that have the fewest accepted examples."""
    texts: tuple[str, ...] | None = None
    """Inputs that the user brought; None: the teacher writes them."""
    evolve: bool = False
    """Make harder variants of accepted inputs first."""
    held_out: HeldOut | None = None
    """What must be neither shown to the teacher, nor repeated, nor added to."""


@dataclass
class Progress:
    """Stores what comes, a little at a time, and tells how far it is."""

    place: Workplace
    wish: Wish
    before: int
    made: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    useless: Counter[str] = field(default_factory=Counter)
    """Answers that cannot be used (empty, cut off, refused), by reason."""
    started: float = field(default_factory=time.monotonic)
    _agreements: list[float] = field(default_factory=list)
    _waiting: list[Example] = field(default_factory=list)
    _told_at: float = field(default_factory=time.monotonic)

    async def follow(self, stream: AsyncIterator[Made], ledger: Ledger) -> None:
        """Store every example of ``stream``, also when it ends in an error."""
        ended = asyncio.Event()
        storing = asyncio.create_task(self._store_now_and_then(ledger, ended))
        try:
            async for item in stream:
                self._take(item)
        finally:
            ended.set()
            await storing

    def _take(self, item: Made) -> None:
        if isinstance(item, Example):
            self._waiting.append(item)
            if item.state == "rejected":
                self.useless[examples.reason_head(item.reason)] += 1
            if item.agreement is not None:
                self._agreements.append(item.agreement)
        elif isinstance(item, Failure):
            self.failures[item.reason] += 1
        elif isinstance(item, Hundred):
            self.place.say("generate.hundred", **asdict(item))
        elif isinstance(item, Repetitive):
            self.place.say("generate.repetitive", reason=item.reason)
        elif isinstance(item, Exhausted):
            self.place.say("generate.exhausted", reason=item.reason)

    async def _store_now_and_then(self, ledger: Ledger, ended: asyncio.Event) -> None:
        """Until the end, and once more after it."""
        last = False
        while not last:
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), PROGRESS_S)
            last = ended.is_set()
            await self._store(ledger)

    async def _store(self, ledger: Ledger) -> None:
        """Store what waits, in the same transactions as the calls, and tell how far it is."""
        waiting, self._waiting = self._waiting, []

        def write(connection: Connection) -> int:
            added = examples.add(connection, waiting)
            events.add(connection, Event("generate.progress", self._told(connection, added)))
            return added

        added = await ledger.submit(write)
        self.made += added

    def _told(self, connection: Connection, added: int) -> dict[str, object]:
        return {
            "wanted": self.wish.wanted,
            "made": self.before + self.made + added,
            "failed": self.failures.total(),
            "spent_micro": calls.read_purse(connection).spent_micro,
            "seconds": round(time.monotonic() - self.started, 2),
        }

    def agreement(self) -> float | None:
        """Mean share of the answers to one input that were the one kept; None if one was asked."""
        if not self._agreements:
            return None
        return sum(self._agreements) / len(self._agreements)

    def end(self, spent_before: int) -> None:
        """Say what came of it."""
        with self.place.database.read() as connection:
            spent = calls.read_purse(connection).spent_micro - spent_before
        if self.made or self.failures:
            self.place.say(
                "generate.done",
                made=self.made,
                failures=dict(self.failures),
                useless=dict(self.useless),
                spent_micro=spent,
                agreement=self.agreement(),
                seconds=round(time.monotonic() - self.started, 2),
            )
