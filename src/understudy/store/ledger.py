"""The ledger: a Model around an Endpoint, through which every paid call goes.

For each call: is its answer on disk already? Then it costs nothing. Else wait for its turn, hold
the worst case, send, store the raw bytes, understand them, settle. A stage cannot forget any of
this, because all it sees is a Model. What may be sent again: a refused call (nothing is owed) after
the wait it asks for, and a failure that the endpoint itself reports (HTTP 5xx; counted as spent
each time). A torn connection or a time-out is resent only when the user says so, because the answer
may have been paid for.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from sqlalchemy import Connection

from understudy.errors import BudgetReached, DiskError, ProviderRefused, UnderstudyError
from understudy.models.protocol import (
    CallFailed,
    Endpoint,
    Lost,
    NotServed,
    Reply,
    Request,
    Unpaid,
    Unreadable,
)
from understudy.money import Price
from understudy.store import calls, spool
from understudy.store.calls import Arrived, Asked, Ended, Row, Sent
from understudy.store.commits import GroupCommit
from understudy.store.costs import Costs
from understudy.store.database import Database
from understudy.store.flight import Flight, Tries
from understudy.store.pace import Pace, Turn

T = TypeVar("T")
LOW_DISK_BYTES = 8_000_000
"""Sending stops below this much free disk, so that replies in flight still find room."""
BYTES_PER_TOKEN = 4
"""Of ordinary text; only for estimating how much of a rate limit a call takes."""


class Ledger:
    """One endpoint's calls for one project.

    ``dearer`` gives the price of another model name, or None: a reply that says it came from
    another model than was asked is booked at the higher of the two prices.
    """

    def __init__(
        self,
        database: Database,
        endpoint: Endpoint,
        price: Price,
        *,
        max_attempts: int,
        max_wait_s: float,
        concurrency: int = 16,
        resend_unknown: bool = False,
        dearer: Callable[[str], Price | None] = lambda _: None,
        say: Callable[..., None] = lambda *_, **__: None,
    ) -> None:
        self.name = endpoint.name
        self.slowest_s = 0.0
        """Longest that a reply took so far."""
        self._database = database
        self._endpoint = endpoint
        self._price = price
        self._max_attempts = max_attempts
        self._resend_unknown = resend_unknown
        self._costs = Costs(endpoint, price, dearer, say)
        self._say = say
        self._pace = Pace(concurrency=concurrency, max_wait_s=max_wait_s, say=say)
        self._commits = GroupCommit(database)
        self._flying: dict[str, Flight] = {}
        self._landed = asyncio.Event()  # set when the last one has
        self._sent_before = self._keys()
        self._refused: ProviderRefused | None = None  # the last that was for good,
        self._told: ProviderRefused | None = None  # and the last that a caller was told of
        self._held = 0  # calls of ours that hold a reserve
        self._freed = asyncio.Event()  # set for a moment whenever one of them is booked
        self._output_tokens = 0.0  # of a reply, as they go
        self._error: BaseException | None = None  # the first one that nobody waited for

    def _keys(self) -> set[int]:
        """The first 15 digits of every key that has a row: most calls are new, and not looked up.

        What is taken for known by mistake is looked up for nothing; the rows themselves decide.
        """
        with self._database.read() as connection:
            return {int(key[:15], 16) for key in calls.keys(connection, self._endpoint.identity)}

    # -- asking ----------------------------------------------------------------------------

    async def complete(self, request: Request) -> Reply:
        """The reply to ``request``: from disk if it was ever received, else bought.

        Raises CallFailed if this call gave no answer; BudgetReached, ProviderRefused, DiskError or
        Stopped if no other will either. Whoever cancels it gives up a call that may be paid for:
        on an error wait for the others instead.
        """
        key = request.key(self._endpoint.identity)
        if key in self._flying:
            return await self._as_the_other(key)
        flight = self._flying[key] = Flight(asyncio.current_task())
        try:
            reply = await self._call(key, request)
        except BaseException as error:
            flight.ended(error)
            raise
        else:
            flight.ended(reply)
            return reply
        finally:
            del self._flying[key]
            if not self._flying:
                self._landed.set()

    def _as_the_other(self, key: str) -> asyncio.Future[Reply]:
        """What the call will bring that asks the very same at this moment."""
        waiting: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._flying[key].waiting.append(waiting)
        return waiting

    @property
    def in_flight(self) -> int:
        """Calls that were sent and not yet booked."""
        return self._held

    @property
    def database(self) -> Database:
        """Where the rows are."""
        return self._database

    def ask_again(self) -> None:
        """Forget that the model could not be asked: who runs for days outlives an outage."""
        if isinstance(self._refused, NotServed):
            self._refused = self._told = None

    def stop(self) -> None:
        """Send nothing new. Calls in flight go on."""
        self._pace.stop()

    def abandon(self) -> None:
        """Give up the calls in flight; they become unknown when the project is next opened."""
        for flight in self._flying.values():
            if flight.task is not None:
                flight.task.cancel()

    async def close(self) -> None:
        """Wait for the calls in flight, store what they bring, close the endpoint.

        Raises the first error that booking a reply met while nobody waited for it.
        """
        self.stop()
        while self._flying:
            self._landed.clear()
            await self._landed.wait()
        await self._commits.close()
        await self._endpoint.close()
        if self._error is not None:
            raise self._error

    async def submit(self, write: Callable[[Connection], T]) -> T:
        """Write something else to the project, in the same transactions as the calls."""
        return await self._commits.submit_one(write)

    # -- one call --------------------------------------------------------------------------

    async def _call(self, key: str, request: Request) -> Reply:
        tries, told = Tries(), self._told
        if (known := await self._known(key)) is not None:
            return known
        if isinstance(self._refused, NotServed):
            raise self._refused  # nobody is there: only what is on disk can be had
        while True:
            body = self._endpoint.prepare(request)
            turn = await self._pace.turn(self._tokens(body, request))
            try:
                if self._refused is not None and self._refused is not told:
                    raise self._refused  # for good, and nobody knew yet when this call was made
                found = await self._begin(key, request, body)
                if found is None:
                    continue
                if not isinstance(found, Sent):
                    return await self._answer_of(found)
                return await self._send(found, body, turn)
            except Unpaid as error:
                await self._after_refusal(error, tries, turn)
            except Lost as error:
                self._pace.failed(error)
                tries.sent += 1
                if not error.again or tries.sent == self._max_attempts:
                    raise
                await self._pace.back_off(tries.sent)
            finally:
                self._pace.leave(turn)

    async def _known(self, key: str) -> Reply | None:
        """The reply that an earlier process bought, or None. Raises as ``_answer_of`` does."""
        if int(key[:15], 16) not in self._sent_before:
            return None
        row = await self._commits.submit(self._find, key)
        if row is None or calls.goes_out(row, resend_unknown=self._resend_unknown):
            return None
        return await self._answer_of(row)

    async def _begin(self, key: str, request: Request, body: bytes) -> Row | Sent | None:
        """Hold the worst case; None if that has to wait until calls in flight are booked."""
        reserve = self._price.worst_micro(len(body), request.max_tokens)
        asked = Asked(key, request, self.name, self._endpoint.identity, reserve)
        try:
            return await self._commits.submit(self._reserve, asked)
        except BudgetReached:
            if not self._held:
                raise
            await self._freed.wait()  # what calls in flight hold is mostly given back
            return None

    async def _send(self, sent: Sent, body: bytes, turn: Turn) -> Reply:
        self._held += 1
        started = time.monotonic()
        try:
            raw, limits = await self._endpoint.send(body)
        except ProviderRefused as error:
            self._refused = error
            await self._book(calls.freed(sent, error.what))
            self._told = error
            raise
        except Unpaid as error:
            booked = self._book(calls.freed(sent, error.what))
            # Told before the slot is free, so that nobody else runs into the same refusal.
            self._pace.heard(turn, error.limits)
            if error.busy:
                self._pace.refused(turn, error.wait_s)
            await booked
            raise
        except Lost as error:
            await self._book(calls.lost(sent, error.what, error.torn))
            raise
        except Exception as error:
            await self._book(calls.lost(sent, f"something unforeseen: {type(error).__name__}"))
            raise
        except asyncio.CancelledError:
            self._let_go()  # the row stays as sent: unknown, when the project is next opened
            raise
        finally:
            self._pace.leave(turn)
        seconds = round(time.monotonic() - started, 3)
        self.slowest_s = max(self.slowest_s, seconds)
        self._pace.heard(turn, limits)
        await self._store(Arrived(sent, raw, seconds))
        try:
            reply = self._endpoint.read(raw)
        except Unreadable as error:
            await self._book(self._costs.ended(sent, error))
            self._pace.failed(error)
            raise
        ended = self._costs.ended(sent, reply)
        # The bytes are safe; whoever asked need not wait until the books are done.
        self._book(ended)
        self._learn(reply, turn)
        return replace(reply, cost_micro=ended.cost_micro, latency_s=seconds, key=sent.key)

    async def _store(self, arrived: Arrived) -> None:
        """Put the raw bytes on disk: into the database, or beside it if that cannot take them."""
        try:
            await self._commits.submit(calls.receive, arrived)
        except UnderstudyError:
            spool.save(spool.spool_file(self._database.path), arrived)
            raise

    async def _after_refusal(self, error: Unpaid, tries: Tries, turn: Turn) -> None:
        """Wait until the call may be sent again; or raise, if that would not help."""
        if not error.again:
            self._pace.failed(error)
            raise CallFailed(error.what, error.fix) from None
        if error.learned:
            self._say("teacher.quirk", teacher=self.name, learned=error.learned, why=error.what)
        tries.sent += not (error.busy or error.learned)
        clock = asyncio.get_running_loop().time()
        if error.busy and tries.patience_ends is None:
            tries.patience_ends = clock + self._pace.max_wait_s
        out_of_patience = error.busy and clock > (tries.patience_ends or clock)
        if tries.sent == self._max_attempts or out_of_patience:
            fix = error.fix or "Try again later"
            if not error.unreachable:
                raise ProviderRefused(error.what, fix) from None
            self._refused = self._told = NotServed(error.what, fix)
            raise self._refused from None
        if error.busy and error.wait_s:
            await self._pace.sit_out(turn)
        elif not error.learned:
            tries.waited += 1
            await self._pace.back_off(tries.waited)

    # -- what is on disk -------------------------------------------------------------------

    def _find(self, connection: Connection, keys: list[str]) -> list[Row | None]:
        found = calls.newest(connection, keys)
        return [found.get(key) for key in keys]

    def _reserve(
        self, connection: Connection, asked: list[Asked]
    ) -> list[Row | Sent | BudgetReached]:
        if shutil.disk_usage(self._database.path.parent).free < LOW_DISK_BYTES:
            raise DiskError(
                f"the disk of {self._database.path.parent} is nearly full",
                "Free some space and run the same command; everything so far is saved",
            )
        return calls.begin(connection, asked, resend_unknown=self._resend_unknown)

    async def _answer_of(self, row: Row) -> Reply:
        """The reply on disk; settled now if a crash came between storing and settling it."""
        if row.state not in calls.DONE:
            what = {
                "batched": "it is in a batch, which `generate --batch` fetches",
                "sent": "it is under way in another process",
            }.get(row.state, f"outcome unknown ({row.note}); counted as spent")
            failed = CallFailed(what, "--resend-unknown sends calls of unknown outcome again")
            failed.stored = True
            raise failed
        result = self._read(row)
        cost = row.cost_micro
        if row.state == "received":
            ended = self._costs.ended(Sent(row.key, row.attempt, row.reserve_micro), result)
            await self._commits.submit(calls.end, ended)
            cost = ended.cost_micro
        if isinstance(result, Unreadable):
            raise result
        seconds = (row.latency_ms or 0) / 1000
        return replace(result, cost_micro=cost, latency_s=seconds, key=row.key, stored=True)

    def _read(self, row: Row) -> Reply | Unreadable:
        try:
            return self._endpoint.read(row.raw)
        except Unreadable as error:
            error.stored = True
            return error

    async def catch_up(self) -> None:
        """Settle replies that a crash left between being stored and being settled."""
        rows = await self._commits.submit_one(
            lambda connection: calls.received(connection, self._endpoint.identity)
        )
        for row in rows:
            with suppress(Unreadable):
                await self._answer_of(row)

    # -- the books -------------------------------------------------------------------------

    def _book(self, ended: Ended) -> asyncio.Future[None]:
        """Write what became of a call; its reserve is then free for others."""
        booked: asyncio.Future[None] = self._commits.submit(calls.end, ended)
        booked.add_done_callback(self._booked)
        return booked

    def _let_go(self) -> None:
        self._held -= 1
        self._freed.set()
        self._freed.clear()

    def _booked(self, booked: asyncio.Future[None]) -> None:
        self._let_go()
        if not booked.cancelled():
            self._error = self._error or booked.exception()

    def _tokens(self, body: bytes, request: Request) -> int:
        """Estimate of what a call takes of a token rate limit."""
        written = self._output_tokens or min(request.max_tokens, 256)
        return round(len(body) / BYTES_PER_TOKEN + written)

    def _learn(self, reply: Reply, turn: Turn) -> None:
        """Let the estimates follow what replies really take."""
        used = None
        if reply.input_tokens is not None and reply.output_tokens is not None:
            used = reply.input_tokens + reply.output_tokens
            self._output_tokens += 0.05 * (reply.output_tokens - self._output_tokens)
        self._pace.answered(turn, used)
