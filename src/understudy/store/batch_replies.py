"""What a batch brought: each line of the provider's files is booked once, at the price of batches.

A line's raw body and its cost are written in one transaction. It may be read as often as need be:
the provider keeps the file, and what is booked already is passed over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import sqlalchemy as sa

from understudy.errors import ProviderRefused
from understudy.models.batches import BatchEndpoint, Line
from understudy.models.protocol import Unpaid, Unreadable
from understudy.store import calls
from understudy.store.batch_files import CHUNK, CHUNK_BYTES, custom_id
from understudy.store.calls import Arrived, Ended, Sent
from understudy.store.costs import Costs
from understudy.store.database import Database
from understudy.store.schema import call


@dataclass
class Brought:
    """What one batch brought so far. Lines are known by their custom id."""

    database: Database
    endpoint: BatchEndpoint
    costs: Costs
    failed: Callable[[Sent, str, bool], None]
    """Told each call that failed, why, and whether it is for good."""
    waiting: dict[str, Sent]
    booked: set[str]
    answers: set[str] = field(default_factory=set)
    """Lines seen with an answer, whoever booked them."""
    answered: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    strangers: set[str] = field(default_factory=set)
    """Lines that belong to no call of the batch."""
    refused: ProviderRefused | None = None
    """A refusal that is likely to be every call's."""

    def book(self, path: Path) -> bool:
        """Store the lines of a file, each once; False if its end is torn off."""
        last = b""
        with path.open("rb") as file:
            while lines := list(_some(file)):
                self._book_lines([self.endpoint.read_line(line) for line in lines])
                last = lines[-1]
        return not last.strip() or self.endpoint.read_line(last) is not None

    def _book_lines(self, lines: Sequence[Line | None]) -> None:
        ended, arrived = [], []
        for line in lines:
            if line is None:
                continue
            answer = 200 <= line.status < 300
            sent = self.waiting.pop(line.custom_id, None)
            if sent is not None:
                self.booked.add(line.custom_id)
                ended.append(self._settled(sent, line.raw) if answer else self._freed(sent, line))
                self.answered += answer
                if answer:
                    arrived.append(Arrived(sent, line.raw, 0.0))
            if line.custom_id not in self.booked:
                self.strangers.add(line.custom_id)
            elif answer:
                self.answers.add(line.custom_id)
        with self.database.write() as connection:
            if arrived:
                calls.receive(connection, arrived)
            calls.end(connection, ended)

    def free_rest(self, why: str) -> None:
        """Nothing is owed for the calls that are still waited for."""
        self._end_rest(why, calls.freed)

    def lose_rest(self, why: str) -> None:
        """The calls that are still waited for may have been paid for."""
        self._end_rest(why, calls.lost)

    def _end_rest(self, why: str, ended: Callable[[Sent, str], Ended]) -> None:
        left = list(self.waiting.values())
        for start in range(0, len(left), CHUNK):
            some = left[start : start + CHUNK]
            with self.database.write() as connection:
                calls.end(connection, [ended(sent, why) for sent in some])
            for sent in some:
                self.failed(sent, why, False)
        if left:
            self.reasons[why] += len(left)
        self.waiting.clear()

    def _settled(self, sent: Sent, raw: bytes) -> Ended:
        try:
            return self.costs.ended(sent, self.endpoint.read(raw))
        except Unreadable as error:
            return self.costs.ended(sent, error)

    def _freed(self, sent: Sent, line: Line) -> Ended:
        """Nothing is owed for a line that failed; ``failed`` hears whether to try again."""
        error = self.endpoint.refused(line)
        self.reasons[error.what] += 1
        if isinstance(error, ProviderRefused):
            self.refused = error
        for_good = isinstance(error, ProviderRefused) or (
            isinstance(error, Unpaid) and not error.again
        )
        self.failed(sent, error.what, for_good)
        return calls.freed(sent, error.what)


def lines_of(connection: sa.Connection, number: int) -> tuple[dict[str, Sent], set[str]]:
    """The calls of a batch that are waited for, by custom id, and the ids of the others."""
    columns = (call.c.key, call.c.attempt, call.c.reserve_micro, call.c.state)
    waiting, booked = dict[str, Sent](), set[str]()
    for row in connection.execute(sa.select(*columns).where(call.c.batch == number)):
        sent = Sent(row.key, row.attempt, row.reserve_micro)
        if row.state == "batched":
            waiting[custom_id(sent)] = sent
        else:
            booked.add(custom_id(sent))
    return waiting, booked


def _some(file: BinaryIO) -> Iterator[bytes]:
    """The next lines of a file, not too many and not too long."""
    size = 0
    for _ in range(CHUNK):
        line = file.readline(CHUNK_BYTES)
        if not line:
            return
        yield line
        size += len(line)
        if size > CHUNK_BYTES:
            return
