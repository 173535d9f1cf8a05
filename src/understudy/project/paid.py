"""Running asynchronous work from synchronous code, with paid models behind the ledger.

The first Ctrl-C (or SIGTERM) stops sending and waits for the calls in flight, whose answers are
stored; the second gives them up, and they are counted as spent.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from understudy import models
from understudy.errors import UnderstudyError
from understudy.settings import Settings
from understudy.store.database import Database
from understudy.store.ledger import Ledger

T = TypeVar("T")
Work = Callable[[Ledger], Coroutine[Any, Any, T]]


class Interrupted(UnderstudyError):
    """Ctrl-C or SIGTERM; everything so far is saved."""

    def __init__(self, signal_number: int) -> None:
        super().__init__("stopped", "Run the same command to go on")
        self.exit_code = 128 + signal_number


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, also where an event loop runs already (notebooks): then in a thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    result: list[T] = []
    errors: list[BaseException] = []

    def target() -> None:
        try:
            result.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001 (handed on to the caller's thread)
            errors.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return result[0]


def with_teacher(
    database: Database,
    settings: Settings,
    teacher: str,
    work: Work[T],
) -> T:
    """Run ``work`` with the teacher behind the ledger. Raises Interrupted after a signal."""

    async def main() -> T:
        endpoint, price = models.endpoint(teacher, settings)
        ledger = Ledger(
            database,
            endpoint,
            price,
            max_attempts=settings.max_attempts,
            max_wait_s=settings.max_wait,
            resend_unknown=settings.resend_unknown,
        )
        with _signals(ledger) as signals:
            try:
                return await work(ledger)
            except (UnderstudyError, asyncio.CancelledError):
                if signals:
                    raise Interrupted(signals[0]) from None
                raise
            finally:
                await ledger.close()

    return run(main())


@contextmanager
def _signals(ledger: Ledger) -> Iterator[list[int]]:
    """Signals that came, in order. Only the main thread can have them."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def handle(number: int) -> None:
        came.append(number)
        ledger.stop()
        if len(came) > 1:
            ledger.abandon()
        if (len(came) > 1 or not ledger.busy) and task is not None:
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, handle, number)
    try:
        yield came
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
