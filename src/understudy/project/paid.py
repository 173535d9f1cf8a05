"""Running asynchronous work from synchronous code, with paid models behind the ledger.

The first Ctrl-C (or SIGTERM) stops sending and waits for the calls in flight, whose answers are
stored; the second gives them up, and they are counted as spent.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

from understudy import models
from understudy.errors import UnderstudyError
from understudy.settings import Settings
from understudy.store.database import Database
from understudy.store.ledger import Ledger

T = TypeVar("T")
STOPPING = (signal.SIGINT, signal.SIGTERM)
Work = Callable[[Ledger], Coroutine[Any, Any, T]]


class Interrupted(UnderstudyError):
    """Ctrl-C or SIGTERM; everything so far is saved."""

    def __init__(self, signal_number: int) -> None:
        super().__init__("stopped", "Run the same command to go on")
        self.exit_code = 128 + signal_number


class _Stop:
    """What a signal does to work under way. Signals are handled on the loop's own thread."""

    def __init__(self, on_stop: Callable[[int], None]) -> None:
        self.came: list[int] = []
        self.ledger: Ledger | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._on_stop = on_stop

    def watch(self) -> None:
        """Take the running task as the one to stop."""
        self.loop, self._task = asyncio.get_running_loop(), asyncio.current_task()

    def handle(self, number: int) -> None:
        """First: send nothing new, wait for what is in flight. Second: give that up."""
        self.came.append(number)
        flying = self.ledger.in_flight if self.ledger else 0
        if self.ledger:
            self.ledger.stop()
        if len(self.came) == 1 and flying:
            self._on_stop(flying)
        elif self._task is not None:
            if self.ledger:
                self.ledger.abandon()
            self._task.cancel()


def run(work: Callable[[_Stop], Coroutine[Any, Any, T]], on_stop: Callable[[int], None]) -> T:
    """Run to the end, also where an event loop runs already (notebooks): then in a thread.

    Raises Interrupted after a signal, however the work ended: what it brought is stored.
    """
    stop = _Stop(on_stop)

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
    before = {number: signal.signal(number, handler) for number in STOPPING}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def with_teacher(
    database: Database,
    settings: Settings,
    teacher: str,
    work: Work[T],
    on_stop: Callable[[int], None],
) -> T:
    """Run ``work`` with the teacher behind the ledger. Raises Interrupted after a signal."""

    async def main(stop: _Stop) -> T:
        endpoint, price = models.endpoint(teacher, settings)
        ledger = stop.ledger = Ledger(
            database,
            endpoint,
            price,
            max_attempts=settings.max_attempts,
            max_wait_s=settings.max_wait,
            resend_unknown=settings.resend_unknown,
        )
        try:
            await ledger.catch_up()
            return await work(ledger)
        finally:
            await ledger.close()

    return run(main, on_stop)
