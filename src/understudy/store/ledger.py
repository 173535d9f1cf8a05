"""The ledger: a Model around an Endpoint, through which every paid call goes.

For each call: is its answer on disk already? Then it costs nothing. Else hold the worst case, send,
store the raw bytes, understand them, settle. A stage cannot forget any of this, because all it sees
is a Model. What may be sent again: a refused call (nothing is owed) after the wait it asks for, and
a failure that the endpoint itself reports (HTTP 5xx; counted as spent each time). A torn connection
or a time-out is resent only when the user says so, because the answer may have been paid for.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections import Counter
from dataclasses import replace
from functools import partial

from sqlalchemy import Connection

from understudy.errors import DiskError, ProviderRefused, UnderstudyError
from understudy.models.protocol import CallFailed, Endpoint, Lost, Reply, Request, Unpaid
from understudy.money import Price
from understudy.store import calls
from understudy.store.commits import GroupCommit
from understudy.store.database import Database

LOW_DISK_BYTES = 8_000_000
"""Sending stops below this much free disk, so that replies in flight still find room."""
BREAKER = 20
"""Failures in a row after which the endpoint is given up."""
BACKOFF_S = 0.5
"""First wait after a refusal that names none; doubled each time, with full jitter."""
BACKOFF_MOST_S = 30.0


class Stopped(UnderstudyError):
    """No new call is sent any more: the user asked to stop."""

    exit_code = 130


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
        self._max_wait_s = max_wait_s
        self._resend_unknown = resend_unknown
        self._commits = GroupCommit(database)
        self._flying: dict[str, asyncio.Task[Reply]] = {}
        self._stopping = False
        self._quiet_until = 0.0  # on the loop's monotonic clock: a rate limit holds for all calls
        self._failures: list[str] = []  # in a row

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
    def busy(self) -> bool:
        """True while calls are in flight."""
        return bool(self._flying)

    def stop(self) -> None:
        """Send nothing new. Calls in flight go on."""
        self._stopping = True

    def abandon(self) -> None:
        """Give up the calls in flight; they become unknown when the project is next opened."""
        for task in self._flying.values():
            task.cancel()

    async def close(self) -> None:
        """Wait for the calls in flight, store what they bring, close the endpoint."""
        self.stop()
        while self._flying:
            await asyncio.wait(list(self._flying.values()))
        await self._commits.drain()
        await self._endpoint.close()

    async def _call(self, key: str, request: Request) -> Reply:
        clock = asyncio.get_running_loop().time
        patience_ends = clock() + self._max_wait_s
        tried = 0
        while True:
            await self._may_send()
            found = await self._commits.submit(partial(self._find_or_reserve, key, request))
            if isinstance(found, Reply):
                return found
            try:
                return await self._send(found, request)
            except Unpaid as error:
                await self._commits.submit(partial(_free, found, error))
                if not error.again:
                    self._count(error)
                    raise CallFailed(error.what, error.fix) from None
                tried += not error.busy
                if tried == self._max_attempts or (error.busy and clock() > patience_ends):
                    raise ProviderRefused(error.what, error.fix or "Try again later") from None
                await self._wait(error.wait_s, tried)
            except Lost as error:
                await self._commits.submit(partial(_lose, found, error))
                self._count(error)
                tried += 1
                if not error.again or tried == self._max_attempts:
                    raise CallFailed(error.what, error.fix) from None
                await self._wait(None, tried)
            except ProviderRefused as error:
                await self._commits.submit(partial(_free, found, error))
                raise

    async def _may_send(self) -> None:
        while (wait := self._quiet_until - asyncio.get_running_loop().time()) > 0:
            if self._stopping:
                break
            await asyncio.sleep(min(wait, 0.2))
        if self._stopping:
            raise Stopped("stopped", "Run the same command to go on")

    def _find_or_reserve(
        self, key: str, request: Request, connection: Connection
    ) -> Reply | calls.Sent:
        """In one transaction: the reply on disk, or a new row with its reserve held."""
        row = calls.last_attempt(connection, key)
        if row is not None and row.state in ("received", "settled"):
            return self._reply(connection, row)
        if row is not None and row.state == "unknown" and not self._may_resend(row):
            raise CallFailed(
                f"outcome unknown ({row.note}); counted as spent",
                "--resend-unknown sends such calls again",
            )
        if shutil.disk_usage(self._database.path.parent).free < LOW_DISK_BYTES:
            raise DiskError(
                f"the disk of {self._database.path.parent} is nearly full",
                "Free some space and run the same command; everything so far is saved",
            )
        size = sum(
            len(message.content.encode("utf-8", "replace")) + 16 for message in request.messages
        )
        size += len(str(request.schema)) if request.schema else 0
        attempt = row.attempt + 1 if row is not None else 1
        reserve = self._price.worst_micro(size, request.max_tokens)
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

    def _may_resend(self, row: calls.Row) -> bool:
        return self._resend_unknown or row.note.startswith("HTTP 5")

    async def _send(self, sent: calls.Sent, request: Request) -> Reply:
        started = time.monotonic()
        raw = await self._endpoint.send(request)
        seconds = round(time.monotonic() - started, 3)
        await self._commits.submit(lambda c: calls.receive(c, sent, raw, seconds))
        self._failures.clear()
        try:
            reply = self._endpoint.read(raw)
        except CallFailed as error:
            await self._commits.submit(partial(self._settle, sent, error))
            raise
        # The bytes are safe; whoever asked need not wait until the books are done.
        self._commits.submit(partial(self._settle, sent, reply))
        paid = self._cost(reply)
        paid = sent.reserve_micro if paid is None else paid
        return replace(reply, cost_micro=paid, latency_s=seconds, key=sent.key)

    def _settle(self, sent: calls.Sent, result: Reply | CallFailed, connection: Connection) -> None:
        """Book what a reply cost; one that cannot be read is paid for too."""
        if isinstance(result, Reply):
            calls.settle(connection, sent, self._cost(result), result)
        else:
            calls.settle(connection, sent, None, None, result.what)

    def _cost(self, reply: Reply) -> int | None:
        if reply.input_tokens is None or reply.output_tokens is None:
            return None
        return self._price.cost_micro(reply.input_tokens, reply.output_tokens)

    def _reply(self, connection: Connection, row: calls.Row) -> Reply:
        """The reply on disk; settled now if a crash came between storing and settling it."""
        result: Reply | CallFailed
        try:
            result = self._endpoint.read(row.raw)
        except CallFailed as error:
            result = error
        if row.state == "received":
            sent = calls.Sent(row.key, row.attempt, row.reserve_micro)
            self._settle(sent, result, connection)
            row = calls.last_attempt(connection, row.key) or row
        if isinstance(result, CallFailed):
            raise result
        seconds = (row.latency_ms or 0) / 1000
        return replace(result, cost_micro=row.cost_micro, latency_s=seconds, key=row.key)

    def _count(self, error: CallFailed) -> None:
        """Open the circuit breaker after too many failures in a row."""
        self._failures.append(error.what)
        if len(self._failures) >= BREAKER:
            what, times = Counter(self._failures).most_common(1)[0]
            raise ProviderRefused(
                f"{len(self._failures)} calls in a row failed, {times} of them with: {what}",
                "Everything so far is saved; run the same command when it works again",
            )

    async def _wait(self, asked_s: float | None, tried: int) -> None:
        """Back off with full jitter, or wait as asked: then every call waits."""
        if asked_s is not None and asked_s > self._max_wait_s:
            raise ProviderRefused(
                f"the endpoint asks to wait {asked_s:.0f} s",
                "Run the same command then; everything so far is saved",
            )
        if asked_s:
            until = asyncio.get_running_loop().time() + asked_s
            self._quiet_until = max(self._quiet_until, until)
        if asked_s is None:
            most = min(BACKOFF_S * 2**tried, BACKOFF_MOST_S)
            await asyncio.sleep(random.uniform(0, most))


def _free(sent: calls.Sent, error: UnderstudyError, connection: Connection) -> None:
    calls.free(connection, sent, error.what)


def _lose(sent: calls.Sent, error: Lost, connection: Connection) -> None:
    calls.lose(connection, sent, error.what, error.torn)
