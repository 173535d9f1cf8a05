"""The ledger: a Model around an Endpoint, through which every paid call goes.

For each call: is its answer on disk already? Then it costs nothing. Else hold the worst case, send,
store the raw bytes, understand them, settle. A stage cannot forget any of this, because all it sees
is a Model. What may be sent again: a refused call (nothing is owed) after the wait it asks for, and
a failure that the endpoint itself reports (HTTP 5xx; counted as spent each time). A torn connection
or a time-out is resent only when the user says so, because the answer may have been paid for.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from understudy.errors import BudgetReached, DiskError, ProviderRefused, UnderstudyError
from understudy.models.protocol import (
    CallFailed,
    Endpoint,
    Lost,
    Reply,
    Request,
    Unpaid,
    Unreadable,
)
from understudy.money import Price
from understudy.store import calls, spool
from understudy.store.commits import GroupCommit
from understudy.store.database import Database
from understudy.store.pace import Pace

LOW_DISK_BYTES = 8_000_000
"""Sending stops below this much free disk, so that replies in flight still find room."""


@dataclass
class _Tries:
    """What one call has been through. ``patience_ends`` is on the loop's clock."""

    patience_ends: float
    sent: int = 0
    waited: int = 0


class Ledger:
    """One endpoint's calls for one project."""

    def __init__(
        self,
        database: Database,
        endpoint: Endpoint,
        price: Price,
        *,
        max_attempts: int,
        max_wait_s: float,
        resend_unknown: bool = False,
    ) -> None:
        self.name = endpoint.name
        self._database = database
        self._endpoint = endpoint
        self._price = price
        self._max_attempts = max_attempts
        self._resend_unknown = resend_unknown
        self._pace = Pace(max_wait_s)
        self._commits = GroupCommit(database)
        self._flying: dict[str, asyncio.Task[Reply]] = {}
        self._held = 0  # calls of ours that hold a reserve
        self._freed = asyncio.Event()  # set for a moment whenever one of them is booked
        self._error: BaseException | None = None  # the first one that nobody waited for

    async def complete(self, request: Request) -> Reply:
        """The reply to ``request``: from disk if it was ever received, else bought.

        Raises CallFailed if this call gave no answer; BudgetReached, ProviderRefused, DiskError or
        Stopped if no other will either.
        """
        key = request.key(self._endpoint.identity)
        task = self._flying.get(key)
        if task is None:
            task = asyncio.create_task(self._call(key, request))
            self._flying[key] = task
            task.add_done_callback(partial(self._landed, key))
        # Whoever asked may be cancelled; a call that was sent is finished all the same.
        return await asyncio.shield(task)

    def _landed(self, key: str, task: asyncio.Task[Reply]) -> None:
        del self._flying[key]
        if not task.cancelled():
            task.exception()  # seen: nobody may be waiting for it any more

    @property
    def in_flight(self) -> int:
        """Calls under way."""
        return len(self._flying)

    def stop(self) -> None:
        """Send nothing new. Calls in flight go on."""
        self._pace.stop()

    def abandon(self) -> None:
        """Give up the calls in flight; they become unknown when the project is next opened."""
        for task in self._flying.values():
            task.cancel()

    async def close(self) -> None:
        """Wait for the calls in flight, store what they bring, close the endpoint.

        Raises the first error that booking a reply met while nobody waited for it.
        """
        self.stop()
        while self._flying:
            await asyncio.wait(list(self._flying.values()))
        await self._commits.drain()
        await self._endpoint.close()
        if self._error is not None:
            raise self._error

    async def _call(self, key: str, request: Request) -> Reply:
        tries = _Tries(asyncio.get_running_loop().time() + self._pace.max_wait_s)
        while True:
            await self._pace.turn()
            try:
                found = await self._commits.submit(partial(self._find_or_reserve, key, request))
            except BudgetReached:
                if not self._held:
                    raise
                await self._freed.wait()  # what calls in flight hold is mostly given back
                continue
            if isinstance(found, Reply):
                return found
            self._held += 1
            try:
                return await self._send(found, request)
            except ProviderRefused as error:
                await self._book(partial(_free, found, error))
                raise
            except Unpaid as error:
                await self._book(partial(_free, found, error))
                await self._after_refusal(error, tries)
            except Lost as error:
                await self._book(partial(_lose, found, error))
                self._pace.failed(error)
                tries.sent += 1
                if not error.again or tries.sent == self._max_attempts:
                    raise CallFailed(error.what, error.fix) from None
                await self._pace.back_off(None, tries.sent)

    async def _after_refusal(self, error: Unpaid, tries: _Tries) -> None:
        """Wait until the call may be sent again; or raise, if that would not help."""
        if not error.again:
            self._pace.failed(error)
            raise CallFailed(error.what, error.fix) from None
        tries.sent += not error.busy
        out_of_patience = error.busy and asyncio.get_running_loop().time() > tries.patience_ends
        if tries.sent == self._max_attempts or out_of_patience:
            raise ProviderRefused(error.what, error.fix or "Try again later") from None
        if error.busy or error.wait_s is None:
            tries.waited += 1
            await self._pace.back_off(error.wait_s, tries.waited)

    def _find_or_reserve(
        self, key: str, request: Request, connection: Connection
    ) -> Reply | calls.Sent:
        """In one transaction: the reply on disk, or a new row with its reserve held."""
        row = calls.last_attempt(connection, key)
        if row is not None and row.state in ("received", "settled"):
            return self._stored(connection, row)
        if row is not None and row.state == "unknown" and not self._may_resend(row):
            unknown = CallFailed(
                f"outcome unknown ({row.note}); counted as spent",
                "--resend-unknown sends such calls again",
            )
            unknown.stored = True
            raise unknown
        if shutil.disk_usage(self._database.path.parent).free < LOW_DISK_BYTES:
            raise DiskError(
                f"the disk of {self._database.path.parent} is nearly full",
                "Free some space and run the same command; everything so far is saved",
            )
        attempt = row.attempt + 1 if row is not None else 1
        reserve = self._price.worst_micro(self._endpoint.size(request), request.max_tokens)
        calls.reserve(
            connection,
            key,
            attempt,
            request,
            model=self.name,
            identity=self._endpoint.identity,
            reserve_micro=reserve,
        )
        return calls.Sent(key, attempt, reserve)

    async def catch_up(self) -> None:
        """Settle replies that a crash left between being stored and being settled."""
        await self._commits.submit(self._settle_received)

    def _settle_received(self, connection: Connection) -> None:
        for row in calls.received(connection, self._endpoint.identity):
            with suppress(Unreadable):
                self._stored(connection, row)

    def _may_resend(self, row: calls.Row) -> bool:
        return self._resend_unknown or row.note.startswith("HTTP 5")

    async def _send(self, sent: calls.Sent, request: Request) -> Reply:
        started = time.monotonic()
        raw = await self._endpoint.send(request)
        seconds = round(time.monotonic() - started, 3)
        try:
            await self._commits.submit(lambda c: calls.receive(c, sent, raw, seconds))
        except UnderstudyError:
            spool.save(spool_file(self._database.path), spool.Spooled(sent, raw, seconds))
            raise
        try:
            reply = self._endpoint.read(raw)
        except Unreadable as error:
            await self._book(partial(self._settle, sent, error))
            self._pace.failed(error)
            raise
        self._pace.answered()
        # The bytes are safe; whoever asked need not wait until the books are done.
        self._book(partial(self._settle, sent, reply))
        cost = self._cost(reply)
        paid = sent.reserve_micro if cost is None else cost
        return replace(reply, cost_micro=paid, latency_s=seconds, key=sent.key)

    def _book(self, write: partial[None]) -> asyncio.Future[None]:
        """Write what became of a call; its reserve is then free for others."""
        booked = self._commits.submit(write)
        booked.add_done_callback(self._booked)
        return booked

    def _booked(self, booked: asyncio.Future[None]) -> None:
        self._held -= 1
        self._freed.set()
        self._freed.clear()
        if not booked.cancelled():
            self._error = self._error or booked.exception()

    def _settle(self, sent: calls.Sent, result: Reply | Unreadable, connection: Connection) -> None:
        """Book what a reply cost; one that cannot be read is paid for too."""
        if isinstance(result, Reply):
            calls.settle(connection, sent, self._cost(result), result)
        else:
            calls.settle(connection, sent, None, None, result.what)

    def _cost(self, reply: Reply) -> int | None:
        if reply.input_tokens is None or reply.output_tokens is None:
            return None
        return self._price.cost_micro(reply.input_tokens, reply.output_tokens)

    def _stored(self, connection: Connection, row: calls.Row) -> Reply:
        """The reply on disk; settled now if a crash came between storing and settling it."""
        result: Reply | Unreadable
        try:
            result = self._endpoint.read(row.raw)
        except Unreadable as error:
            error.stored = True
            result = error
        if row.state == "received":
            sent = calls.Sent(row.key, row.attempt, row.reserve_micro)
            self._settle(sent, result, connection)
            row = calls.last_attempt(connection, row.key) or row
        if isinstance(result, Unreadable):
            raise result
        seconds = (row.latency_ms or 0) / 1000
        return replace(
            result, cost_micro=row.cost_micro, latency_s=seconds, key=row.key, stored=True
        )


def spool_file(database: Path) -> Path:
    """Where replies wait that the database could not take."""
    return database.with_suffix(".spool")


def _free(sent: calls.Sent, error: UnderstudyError, connection: Connection) -> None:
    calls.free(connection, sent, error.what)


def _lose(sent: calls.Sent, error: Lost, connection: Connection) -> None:
    calls.lose(connection, sent, error.what, error.torn)
