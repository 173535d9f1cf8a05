"""Running asynchronous work from synchronous code, with paid models behind the ledger.

The first Ctrl-C (or SIGTERM, or a hang-up) stops sending and waits a while for the calls in flight,
whose answers are stored; the second gives them up at once, and they are counted as spent.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from types import FrameType
from typing import Any, TypeVar

from understudy import models
from understudy.errors import UnderstudyError
from understudy.models.protocol import Endpoint
from understudy.money import Price
from understudy.settings import Settings
from understudy.store import calls, quirks
from understudy.store.database import Database
from understudy.store.ledger import Ledger

T = TypeVar("T")
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DRAIN_S = 10.0
"""Seconds that a first stop waits for replies, or twice what the slowest took if that is more."""
Work = Callable[[Ledger], Coroutine[Any, Any, T]]
Say = Callable[..., None]


class Interrupted(UnderstudyError):
    """Ctrl-C, SIGTERM or a hang-up; everything so far is saved."""

    def __init__(self, signal_number: int) -> None:
        super().__init__("stopped", "Run the same command to go on")
        self.exit_code = 128 + signal_number


class _Stop:
    """What a signal does to work under way. Signals are handled on the loop's own thread."""

    def __init__(self, say: Say) -> None:
        self.came: list[int] = []
        self.ledgers: list[Ledger] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._say = say

    def watch(self) -> None:
        """Take the running task as the one to stop."""
        self.loop, self._task = asyncio.get_running_loop(), asyncio.current_task()

    def handle(self, number: int) -> None:
        """First: send nothing new, wait for what is in flight. Second: give that up."""
        self.came.append(number)
        flying = sum(ledger.in_flight for ledger in self.ledgers)
        for ledger in self.ledgers:
            ledger.stop()
        if len(self.came) == 1 and flying and self.loop:
            patience = max(DRAIN_S, *(2 * ledger.slowest_s for ledger in self.ledgers))
            self._say("ledger.stopping", in_flight=flying, wait_s=round(patience))
            self.loop.call_later(patience, self._give_up)
        else:
            self._give_up()

    def _give_up(self) -> None:
        for ledger in self.ledgers:
            ledger.abandon()
        if self._task is not None:
            self._task.cancel()


def run(work: Callable[[_Stop], Coroutine[Any, Any, T]], say: Say) -> T:
    """Run to the end, also where an event loop runs already (notebooks): then in a thread.

    Raises Interrupted after a signal, however the work ended: what it brought is stored.
    """
    stop = _Stop(say)

    async def main() -> T:
        stop.watch()
        try:
            return await work(stop)
        except (UnderstudyError, asyncio.CancelledError):
            if not stop.came:
                raise
            raise Interrupted(stop.came[0]) from None

    def hand_on(number: int, _frame: FrameType | None) -> None:
        if stop.loop is not None:
            stop.loop.call_soon_threadsafe(stop.handle, number)

    with _handled(hand_on):
        result = _in_thread(main) if _loop_runs() else asyncio.run(main())
    if stop.came:
        raise Interrupted(stop.came[0])
    return result


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _in_thread(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run in a thread of its own."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(lambda: asyncio.run(main())).result()


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have ``handler`` take signals, and afterwards whoever had them before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # What is ignored stays so: nohup, and jobs that a script put into the background.
    taken = [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in taken}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def with_teacher(
    database: Database, settings: Settings, teacher: str, work: Work[T], say: Say
) -> T:
    """Run ``work`` with the teacher behind the ledger. Raises Interrupted after a signal."""
    return with_models(database, settings, [models.endpoint(teacher, settings)], work, say)


def with_models(
    database: Database,
    settings: Settings,
    endpoints: Sequence[tuple[Endpoint, Price]],
    work: Callable[..., Coroutine[Any, Any, T]],
    say: Say,
) -> T:
    """Run ``work`` with each endpoint behind a ledger of its own; they share one purse.

    What an endpoint is found to want otherwise is remembered. Raises Interrupted after a signal.
    """

    async def main(stop: _Stop) -> T:
        async with AsyncExitStack() as stack:
            for endpoint, price in endpoints:
                opened = behind_ledger(database, settings, endpoint, price, say)
                stop.ledgers.append(await stack.enter_async_context(opened))
            return await work(*stop.ledgers)

    with _garbage_of_this_work_only():
        try:
            return run(main, say)
        except Interrupted:
            _book_given_up(database, say)
            raise


def _book_given_up(database: Database, say: Say) -> None:
    """Count what a stop gave up as spent, now and not when the project is next opened."""
    with database.write() as connection:
        before = calls.read_purse(connection).spent_micro
        lost = calls.recover(connection, "it was given up when the command was stopped")
        micro = calls.read_purse(connection).spent_micro - before
    if lost:
        say("ledger.given_up", calls=lost, micro=micro)


@contextmanager
def _garbage_of_this_work_only() -> Iterator[None]:
    """Keep the collector from looking through every loaded module, thousands of times a minute.

    Measured with 1,000 calls in flight: a fifth of the processor time of a call; and a tenth by
    looking less often, since calls leave few circles behind.
    """
    often = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(10_000, *often[1:])
    try:
        yield
    finally:
        gc.set_threshold(*often)
        gc.unfreeze()


@asynccontextmanager
async def behind_ledger(
    database: Database, settings: Settings, endpoint: Endpoint, price: Price, say: Say
) -> AsyncIterator[Ledger]:
    """The endpoint behind a ledger, for the length of the block; what it learns is remembered."""
    with database.read() as connection:
        endpoint.quirks = quirks.load(connection, endpoint.identity) or endpoint.quirks
    before = endpoint.quirks
    ledger = Ledger(
        database,
        endpoint,
        price,
        max_attempts=settings.max_attempts,
        max_wait_s=settings.max_wait,
        concurrency=models.at_once(endpoint.name, settings),
        resend_unknown=settings.resend_unknown,
        dearer=lambda model: models.dearer(endpoint.name, model, settings),
        say=say,
    )
    try:
        await ledger.catch_up()
        yield ledger
    finally:
        await ledger.close()
        if endpoint.quirks != before:
            with database.write() as connection:
                quirks.save(connection, endpoint.identity, endpoint.quirks)
